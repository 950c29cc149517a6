"""Opens a bundle's artifact in a child with limits, runs its recorded sample, and compares with its recorded outputs.

No code out of the bundle runs unless that is asked for: `session.py` must be, byte for byte, a module that is installed
here, and the program around it is the one of this release.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.bundle.verify import load_bundle
from edgeport.contracts import Limits, Outcome, digest_file
from edgeport.errors import BackendError, DependencyError, EdgeportError
from edgeport.module_files import module_file

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["ReplayResult", "reproduce", "run_bundle"]

_SESSION, _ARTIFACT, _RUNNER = "session.py", "artifact", "runner.py"
_ENGINES = (".engine", ".plan", ".trt")


@dataclass(frozen=True, kw_only=True)
class ReplayResult:
    """What became of running a bundle's recorded sample.

    Attributes:
        outcome: PASS where the recorded outputs came out, FAIL where others did or it does not run, UNMEASURED where
            nothing here may or can run it.
        reason: In a sentence.
        difference: Largest difference to the recorded outputs, relative to the largest of them; None where nothing ran.
        tolerance: That is allowed; another processor sums in another order.

    """

    outcome: Outcome
    reason: str
    difference: float | None = None
    tolerance: float | None = None


def run_bundle(folder: Path, *, limits: Limits, trust_code: bool = False) -> ReplayResult:
    """Runs the recorded sample of a bundle whose files were found as they were written (`verify_bundle`).

    Args:
        folder: Of the bundle.
        limits: Of the child.
        trust_code: Run the bundle's own `session.py` although it is not one that is installed here.

    Raises:
        OutputError, ContractError: There is no bundle, or its manifest is damaged.

    """
    from edgeport.isolation import run_isolated

    manifest = load_bundle(folder).manifest
    if not trust_code and manifest.artifact.entry.endswith(_ENGINES):
        reason = "its engine is code that TensorRT takes as it is, so it was not run; --trust-code runs it"
        return ReplayResult(outcome=Outcome.UNMEASURED, reason=reason)
    if not trust_code and not _is_installed(folder / _SESSION, manifest.artifact.session):
        reason = (
            f"its {_SESSION} is no module that is installed here, so it was not run; where you trust who made the "
            "bundle, --trust-code runs it"
        )
        return ReplayResult(outcome=Outcome.UNMEASURED, reason=reason)
    try:
        _check_structure(folder / _ARTIFACT / manifest.artifact.entry)
        payload = {"folder": str(folder.resolve())}
        found = run_isolated(
            "edgeport.bundle.running:reproduce", payload, limits=limits, asked=f"run the bundle {folder.name}"
        )
    except DependencyError as error:
        return ReplayResult(outcome=Outcome.UNMEASURED, reason=error.reason)
    except EdgeportError as error:
        return ReplayResult(outcome=Outcome.FAIL, reason=f"it does not run: {error.found}")
    difference, tolerance = float(found["difference"]), float(found["tolerance"])
    same = difference <= tolerance
    how = "equal to" if difference == 0 else f"within {difference:.2g} of"
    reason = f"its outputs are {how} the recorded ones"
    if not same:
        reason = f"its outputs are {difference:.2g} of the largest recorded one away; {tolerance:g} is allowed"
    outcome = Outcome.PASS if same else Outcome.FAIL
    return ReplayResult(outcome=outcome, reason=reason, difference=difference, tolerance=tolerance)


def reproduce(payload: dict[str, Any]) -> dict[str, Any]:
    """Child's side: what `run.py` does, by this release's copy of it.

    Args:
        payload: `folder` of the bundle.

    Returns:
        `difference` and `tolerance`.

    Raises:
        DependencyError: The runtime is not installed.
        BackendError: The program stopped: files that changed meanwhile, inputs that do not fit, ...

    """
    folder = Path(payload["folder"])
    runner = _runner(folder)
    try:
        manifest = runner.read_manifest()
        runner.check_files(manifest)
        feeds = runner.inputs_of(manifest, runner.load_arrays(folder / "sample.npz"))
        runner.check_feeds(manifest, feeds)
        outputs = runner.infer(manifest, feeds)
        recorded = runner.load_arrays(folder / "expected.npz")
    except SystemExit as stopped:
        raise _error(folder, str(stopped.code).removeprefix("run.py: ")) from stopped
    if not recorded:
        raise _error(folder, "no recorded outputs in expected.npz")
    worst = max(runner.difference(outputs.get(name), wanted) for name, wanted in recorded.items())
    tolerance = runner.TOLERANCE.get(manifest["artifact"]["precision"], runner.COARSE_TOLERANCE)
    return {"difference": str(worst), "tolerance": tolerance}


def _error(folder: Path, found: str) -> EdgeportError:
    asked = f"run the bundle {folder.name}"
    if "; install what it needs" in found:
        return DependencyError(
            asked=asked, found=found.partition(";")[0], fix=f"pip install -r {folder.name}/requirements.txt"
        )
    return BackendError(asked=asked, found=found, fix="get the bundle again")


def _runner(folder: Path) -> ModuleType:
    """The runner of this release, at work in `folder`."""
    spec = importlib.util.spec_from_file_location("edgeport_bundle_runner", Path(__file__).with_name(_RUNNER))
    if spec is None or spec.loader is None:
        raise _error(folder, f"no {_RUNNER}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.HERE = folder  # type: ignore[attr-defined]
    return module


def _is_installed(session: Path, module: str) -> bool:
    """The file is, byte for byte, the module of that name here; nothing is imported to tell."""
    if not all(part.isidentifier() for part in module.split(".")):
        return False
    file = module_file(module)
    return file is not None and file.is_file() and digest_file(file) == digest_file(session)


def _check_structure(entry: Path) -> None:
    """An ONNX file that names data outside of itself must be found out before a runtime opens it."""
    from edgeport.onnx_files import open_onnx

    if entry.suffix == ".onnx":
        open_onnx(entry)
