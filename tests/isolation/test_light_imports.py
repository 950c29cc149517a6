"""What a child does not import, and that nothing notices."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgeport.isolation import run_isolated

pytest.importorskip("onnx_ir")
pytest.importorskip("sympy")


def test_a_child_that_reads_onnx_loads_no_sympy(jobs):
    assert run_isolated("isolation_jobs:what_onnx_ir_loads", {}) == {"onnx_ir": True, "sympy": False}


@pytest.mark.parametrize(
    "uses",
    [
        pytest.param('assert str(ir.SymbolicDim("max(n, 3)") + 1) == "Max(3, n) + 1"', id="arithmetic"),
        pytest.param('import sympy; assert ir.SymbolicDim(sympy.Symbol("x") * 2).value == "2*x"', id="expression"),
        pytest.param("import sympy.core; from sympy import Max; assert Max(1, 2) == 2", id="import-elsewhere"),
        pytest.param("assert not any('light_imports' in str(type(one)) for one in sys.meta_path)", id="nothing-left"),
    ],
)
def test_sympy_is_there_for_whoever_uses_it(uses):
    given = (
        "import sys; from edgeport.isolation.light_imports import defer_sympy; defer_sympy(); import onnx_ir as ir\n"
    )
    subprocess.run([sys.executable, "-c", given + "assert 'sympy' not in sys.modules\n" + uses], check=True, timeout=60)


def test_where_sympy_is_loaded_nothing_is_deferred():
    given = (
        "import sys, sympy; from edgeport.isolation.light_imports import defer_sympy; before = list(sys.meta_path)\n"
    )
    then = "defer_sympy(); assert sys.meta_path == before; import onnx_ir._core; assert onnx_ir._core.sympy is sympy"
    subprocess.run([sys.executable, "-c", given + then], check=True, timeout=60)
