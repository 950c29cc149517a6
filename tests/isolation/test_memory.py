"""What is freed between the steps of a child."""

from __future__ import annotations

import weakref

import pytest

from edgeport.isolation import memory


class Held:
    """An object in a cycle, as the values of a graph are."""

    def __init__(self) -> None:
        self.itself = self


@pytest.mark.parametrize(
    ("size", "freed"), [pytest.param((1 << 20) + 1, True, id="large"), pytest.param(1 << 20, False, id="small")]
)
def test_a_large_models_cycles_are_freed(size, freed, tmp_path):
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(size)
    memory.gc.disable()
    try:
        held = weakref.ref(Held())
        memory.give_back_of(path)
        assert (held() is None) == freed
    finally:
        memory.gc.enable()
