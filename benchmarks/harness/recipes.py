"""One recipe with its samples, run as anyone would run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgeport import api
from edgeport.contracts import Array
from edgeport.npz import save_npz

if TYPE_CHECKING:
    from edgeport.contracts import RunResult


def write_recipe(folder: Path, name: str, text: str, samples: Mapping[str, Callable[[], Mapping[str, Array]]]) -> Path:
    """The recipe as it is now, beside its samples; those that an earlier start wrote are taken."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, arrays in samples.items():
        file = folder / f"{part}.npz"
        if not file.exists():
            partial = file.with_suffix(".part")
            save_npz(partial, arrays())
            partial.replace(file)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def run_recipe(recipe: Path, store: Path) -> RunResult:
    """Run it into the folder `out` beside it; what was finished is not done again."""
    return api.run(
        recipe,
        output=recipe.parent / "out",
        store=store,
        on_progress=lambda event: print(event.stage, event.message, event.done, event.total, flush=True),
    )
