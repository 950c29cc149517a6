"""Prepares the quickstart's folder: a trained network, its samples, and the recipe that takes them on."""

from __future__ import annotations

import importlib.util
import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from edgeport.contracts import Limits, OnProgress, silent
from edgeport.digits.recipe import recipe_with
from edgeport.errors import DependencyError, EdgeportError, OutputError
from edgeport.isolation import run_isolated
from edgeport.pipeline.compilation.accelerators import accelerators_here

__all__ = ["FILES", "prepare"]

FILES = ("digits_cnn.py", "weights.safetensors", "calibration.npz", "evaluation.npz", "edgeport.toml")
"""What `prepare` writes; the recipe comes last, so a folder that has it has everything."""

_LIMITS = Limits(time_s=600.0, memory_bytes=4 << 30)
_LEAST_ACCURACY = 0.97


def prepare(folder: Path, on_progress: OnProgress = silent) -> Path:
    """Trains a small network on scikit-learn's handwritten digits and writes all that a run needs.

    Takes some 15 seconds on two cores. A folder that was prepared before is used as it is.

    Args:
        folder: Made if it is not there.
        on_progress: Told after each epoch.

    Returns:
        The recipe, `folder/edgeport.toml`; `edgeport run` takes it.

    Raises:
        DependencyError: PyTorch or scikit-learn is not installed.
        OutputError: The folder holds other files of these names, or can't be written.

    """
    recipe = folder / "edgeport.toml"
    if all((folder / name).is_file() for name in FILES) and _is_ours(recipe.read_text(encoding="utf-8")):
        return recipe
    _check_extra()
    _check_free(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(prefix=".preparing-", dir=folder) as work,
            ThreadPoolExecutor(max_workers=1) as pool,
        ):
            asking = pool.submit(accelerators_here, "onnxruntime")
            _train(Path(work), on_progress)
            (Path(work) / "edgeport.toml").write_text(recipe_with(asking.result()), encoding="utf-8")
            for name in FILES:
                shutil.move(Path(work) / name, folder / name)
    except OSError as error:
        raise OutputError(
            asked=f"prepare the quickstart in {folder}", found=str(error), fix="name a folder that can be written"
        ) from error
    return recipe


def _is_ours(text: str) -> bool:
    """Whatever devices there were when it was written."""
    devices = re.findall(r'^runtime_device = "(\w+)"$', text, re.MULTILINE)
    return text == recipe_with(devices)


def _check_extra() -> None:
    """Before a child is started: finding a package does not import it."""
    for module, package in (("torch", "PyTorch"), ("sklearn", "scikit-learn"), ("safetensors", "safetensors")):
        if importlib.util.find_spec(module) is None:
            raise DependencyError(
                asked="prepare the quickstart",
                found=f"no {package}, with which its network is trained",
                fix='install it: pip install "edgeport[quickstart]"',
                details={"extra": "quickstart", "module": module},
            )


def _check_free(folder: Path) -> None:
    taken = [name for name in FILES if (folder / name).exists() or (folder / name).is_symlink()]
    if taken:
        raise OutputError(
            asked=f"prepare the quickstart in {folder}",
            found=f"{', '.join(taken)} there already, and not as the quickstart writes them",
            fix="name an empty folder, or remove these files",
        )


def _train(folder: Path, on_progress: OnProgress) -> None:
    result = run_isolated(
        "edgeport.digits.train:train",
        {"folder": str(folder)},
        limits=_LIMITS,
        on_progress=on_progress,
        asked="train the quickstart's network",
    )
    if result["accuracy"] < _LEAST_ACCURACY:
        raise EdgeportError(
            asked="train the quickstart's network",
            found=f"top-1 {result['accuracy']:.3f}, less than {_LEAST_ACCURACY}",
            fix="report this as a fault in Edgeport, with the versions that `edgeport doctor` prints",
        )
