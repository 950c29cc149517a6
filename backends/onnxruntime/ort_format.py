"""An artifact optimised ahead: fused (`transformer_fusion.py`), or in ONNX Runtime's own format.

The format is for builds of the runtime that read no ONNX, and for a faster start:
https://onnxruntime.ai/docs/performance/model-optimizations/ort-format-models.html
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeport import hardware
from edgeport.backends.artifacts import artifact_digest, artifact_folder, check_artifact, make_artifact
from edgeport.backends.onnxruntime.constants import LEVELS
from edgeport.backends.onnxruntime.execution_options import SETTINGS
from edgeport.backends.onnxruntime.placement import read_placement
from edgeport.backends.onnxruntime.session_support.runtime_session import (
    inference_session,
    processor_here,
    session_options,
)
from edgeport.backends.onnxruntime.transformer_fusion import FUSED, fused_where_faster
from edgeport.backends.session_errors import runtime_errors
from edgeport.contracts import Artifact, Placement
from edgeport.errors import UnsupportedByBackend

__all__ = ["DEVICE", "FORMS", "PORTABLE", "pack"]

PORTABLE, DEVICE = "ort", "ort-device"
FORMS = {PORTABLE: "extended", DEVICE: "all"}
"""The runtime's level of what is written: above "extended" a graph holds layouts of this machine's instructions."""
ENTRY = "model.ort"


def pack(artifact: Artifact, form: str, folder: Path) -> tuple[Artifact, Placement]:
    """The artifact with its graph optimised ahead, and what runs where in it.

    Args:
        artifact: An ONNX file; its level is kept where that is lower, because the runtime does not open it at a higher.
        form: `transformer_fusion.FUSED`, see there, or one of `FORMS`. `PORTABLE` runs on every machine and on minimal
            builds; `DEVICE` holds all that the runtime makes of the graph here, and opens on processors with the same
            instructions and this version alone.
        folder: New or empty.

    Raises:
        UnsupportedByBackend: A pipeline, another provider than the CPU's, or no such form.
        BackendError: The runtime can't write it; its format ends at 2 GiB.
        OutputError: `folder` is not empty.

    """
    settings = dict(artifact.settings)
    known = (*FORMS, FUSED)
    if hardware.is_elsewhere():
        raise UnsupportedByBackend(
            asked=f"write {artifact.entry} as {form}",
            found=f"that it is for {hardware.machine()}, and the runtime here optimises for this machine",
            fix="leave it in ONNX, or write it there",
        )
    if form not in known or "stages" in settings or {"providers", "places"} & set(settings):
        found = "a model in stages" if "stages" in settings else "another provider than the CPU's"
        raise UnsupportedByBackend(
            asked=f"write {artifact.entry} as {form}",
            found=found if form in known else f"forms onnx, {', '.join(known)}",
            fix="leave it as it is, in ONNX" if form in known else "choose one of them",
        )
    if form == FUSED:
        return fused_where_faster(artifact, folder)
    path = check_artifact(artifact)
    level = max(FORMS[form], str(settings.get("optimization", "all")), key=LEVELS.index)
    settings["optimization"] = level
    source = replace(artifact, settings=settings, digest=artifact_digest(artifact.folder, settings))
    placement = read_placement(source)
    plain = {name: value for name, value in settings.items() if name not in SETTINGS}
    with artifact_folder(folder) as draft:
        options = session_options({**plain, "threads": 1})
        options.optimized_model_filepath = str(draft / ENTRY)
        options.add_session_config_entry("session.save_model_format", "ORT")
        with runtime_errors(
            f"write {artifact.entry} in ONNX Runtime's format", "leave it in ONNX, and see what the runtime says"
        ):
            inference_session(path, options, plain)
    kept = {name: value for name, value in settings.items() if name not in ("skip", "optimization")}
    if form == DEVICE:
        kept["made_for"] = processor_here()
    made = make_artifact(
        backend=artifact.backend,
        folder=folder,
        entry=ENTRY,
        session=artifact.session,
        settings=kept,
        precision=artifact.precision,
        execution=artifact.execution,
    )
    return made, placement
