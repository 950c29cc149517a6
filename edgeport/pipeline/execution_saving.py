"""An artifact or a bundle written anew with other settings; its files stay as they are."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from edgeport.atomic import atomic_folder
from edgeport.contracts import Artifact, LatencySummary, Measured, digest_file, to_jsonable
from edgeport.pipeline.artifacts import ARTIFACT_FILE, MODEL_FILE, write_artifact_record

__all__ = ["save_tuned"]

_BESIDE = ("plan.json", "placement.json")


def save_tuned(artifact: Artifact, source: Path, place: Path, summary: LatencySummary | None) -> None:
    """Writes the folder, in the place of what an earlier search wrote there; whole, or not at all.

    Args:
        artifact: With its new settings.
        source: What it was opened from: a folder of `quantize`, a bundle, or an `.onnx` file.
        place: The folder.
        summary: What was measured with the new settings; None where nothing was yet.

    """
    with atomic_folder(place, overwrite=True) as draft:
        if source.suffix != ".onnx" and not (source / ARTIFACT_FILE).is_file():
            _fill_bundle(artifact, source, draft, summary)
        else:
            _fill_artifact(artifact, source, draft)


def _fill_artifact(artifact: Artifact, source: Path, draft: Path) -> None:
    from edgeport.onnx_files import open_onnx

    shutil.copytree(artifact.folder, draft / "artifact")
    beside = artifact.folder.parent
    for name in _BESIDE:
        if (beside / name).is_file():
            shutil.copyfile(beside / name, draft / name)
    if source.suffix == ".onnx":
        model = to_jsonable(open_onnx(source))
    else:
        model = json.loads((source / MODEL_FILE).read_text(encoding="utf-8"))
    write_artifact_record(draft, to_jsonable(artifact), model)


def _fill_bundle(artifact: Artifact, source: Path, draft: Path, summary: LatencySummary | None) -> None:
    """The bundle with another manifest; what was measured of it as it was run before is left out."""
    from edgeport.bundle import load_bundle, load_measured
    from edgeport.bundle.measured import REPORT, write_measured
    from edgeport.bundle.verify import MANIFEST

    bundle, measured = load_bundle(source), load_measured(source)
    for name in bundle.manifest.files:
        (draft / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, draft / name, follow_symlinks=False)
    built = replace(artifact, folder=Path("artifact"), compile_ns=None)
    manifest = replace(bundle.manifest, artifact=built)
    text = json.dumps(to_jsonable(manifest), indent=2, sort_keys=True, ensure_ascii=False)
    (draft / MANIFEST).write_text(text + "\n", encoding="utf-8", newline="\n")
    told = Measured(
        identity=digest_file(draft / MANIFEST),
        accuracy=measured.accuracy,
        latency=summary,
        compile_ns=measured.compile_ns,
        report_digest=measured.report_digest,
    )
    if measured.report_digest and (source / REPORT).is_file():
        shutil.copyfile(source / REPORT, draft / REPORT, follow_symlinks=False)
    write_measured(told, draft)
