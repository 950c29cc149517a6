"""`__all__` is what a module defines in the open, and every name in it is there."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

import edgeport.contracts
from edgeport import errors

MODULES = [
    importlib.import_module(f"edgeport.contracts.{module.name}")
    for module in pkgutil.iter_modules(edgeport.contracts.__path__)
] + [errors]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_every_public_class_and_function_is_exported(module):
    defined = {
        name
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }
    assert defined - set(module.__all__) <= {"canonical"}
    assert all(hasattr(module, name) for name in module.__all__)
    assert len(module.__all__) == len(set(module.__all__))


def test_the_package_exports_what_its_modules_do():
    names = set(edgeport.contracts.__all__)
    assert all(hasattr(edgeport.contracts, name) for name in names)
    assert len(edgeport.contracts.__all__) == len(names)
    classes = {name for module in MODULES[:-1] for name in module.__all__ if inspect.isclass(getattr(module, name))}
    assert classes <= names
