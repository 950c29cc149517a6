"""Writes a bundle: whole, or not at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

from edgeport.atomic import atomic_folder
from edgeport.bundle.contents import BundleContents
from edgeport.bundle.measured import REPORT, write_measured
from edgeport.bundle.place import check_place
from edgeport.bundle.verify import MANIFEST, files_of
from edgeport.contracts import Bundle, Manifest, Measured, Preprocessing, digest_file, to_jsonable
from edgeport.errors import OutputError
from edgeport.module_files import module_file, standalone_source
from edgeport.npz import save_npz

__all__ = ["write_bundle"]

_HERE = Path(__file__).parent
_README = """\
# {name}

{candidate}, made and measured by Edgeport on {cpu}.

    pip install -r requirements.txt
    python run.py                       # the recorded sample; says whether the outputs are the recorded ones
    python run.py --input mine.npz      # your own: one array per input, by its name
{inputs}
`manifest.json` tells what this is, from what and with what it was made, and holds the SHA-256 of every file here;
`measured.json` tells what was measured.
`run.py` and `session.py` are under the Apache License 2.0 (LICENSE). {licence}
"""


def write_bundle(contents: BundleContents, folder: Path) -> Bundle:
    """Writes the folder that ships; equal contents give equal bytes.

    It is made beside `folder` and renamed into place. An older bundle there is replaced, anything else is left alone.

    Args:
        contents: The pieces.
        folder: The bundle's folder.

    Returns:
        The bundle, as `load_bundle` would read it.

    Raises:
        OutputError: `folder` is a link, a file, or a folder that is no bundle (or a bundle with other files in it);
            the artifact holds links; or nothing can be written there.

    """
    check_place(folder)
    _check_artifact(contents)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_folder(folder, overwrite=True) as draft:
            manifest = _fill(draft, contents)
    except OSError as error:
        raise OutputError(
            asked=f"write the bundle {folder}", found=str(error), fix="name a folder that can be written"
        ) from error
    return Bundle(folder=folder, manifest=manifest)


def _check_artifact(contents: BundleContents) -> None:
    source = contents.artifact.folder
    links = [path.name for path in (source, *source.rglob("*")) if path.is_symlink()]
    if links or not source.is_dir():
        raise OutputError(
            asked=f"bundle the artifact {source.name}",
            found=f"links in it: {', '.join(links[:5])}" if links else "no such folder",
            fix="compile it again; what ships is a folder of plain files",
        )


def _fill(folder: Path, contents: BundleContents) -> Manifest:
    """All files of the bundle: first what it is and the manifest of that, then what was measured."""
    _copy_tree(contents.artifact.folder, folder / "artifact")
    _copy(_HERE / "runner.py", folder / "run.py")
    (folder / "session.py").write_bytes(_session_source(contents.artifact.session))
    (folder / "session.py").chmod(0o644)
    _copy(_HERE / "LICENSE", folder / "LICENSE")
    _copy_preprocessing(contents, folder)
    save_npz(folder / "sample.npz", dict(sorted(contents.sample.items())))
    save_npz(folder / "expected.npz", dict(sorted(contents.expected.items())))
    if contents.begins:
        save_npz(folder / "state.npz", dict(sorted(contents.begins.items())))
    (folder / "requirements.txt").write_text(_requirements(contents), encoding="utf-8", newline="\n")
    (folder / "README.md").write_text(_readme(contents), encoding="utf-8", newline="\n")
    manifest = _manifest(contents, {name: digest_file(folder / name) for name in files_of(folder)})
    text = json.dumps(to_jsonable(manifest), indent=2, sort_keys=True, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8", newline="\n")
    if contents.report is not None:
        _copy(contents.report, folder / REPORT)
    write_measured(_measured(contents, folder), folder)
    return manifest


def _copy_preprocessing(contents: BundleContents, folder: Path) -> None:
    """What `run.py` applies to raw samples: our own code for images, and the user's modules."""
    if any(isinstance(spec.preprocessing, Preprocessing) for spec in contents.model.inputs):
        source = module_file("edgeport.preprocessing.images")
        if source is None:
            raise OutputError(
                asked="pack the code that preprocesses images",
                found="no source file of it",
                fix="install Edgeport again",
            )
        _copy(source, folder / "preprocess.py")
    for name, file in sorted(contents.modules.items()):
        if (folder / f"{name}.py").exists():
            raise OutputError(
                asked=f"pack the module {name} into the bundle",
                found=f"that a bundle has a {name}.py of its own",
                fix="give the module another name, or leave out ship",
            )
        _copy(file, folder / f"{name}.py")


def _manifest(contents: BundleContents, files: dict[str, str]) -> Manifest:
    return Manifest(
        name=contents.name,
        target=contents.target,
        candidate=contents.candidate.name,
        artifact=replace(contents.artifact, folder=Path("artifact"), compile_ns=None),
        inputs=contents.model.inputs,
        outputs=contents.model.outputs,
        state=dict(contents.model.state),
        axes=dict(contents.axes),
        labels=contents.labels,
        class_output=contents.class_output,
        budget=contents.budget,
        device=contents.device,
        versions=dict(contents.versions),
        files=files,
        source_digest=contents.model.digest,
        provenance=contents.provenance,
        data_free=contents.data_free,
    )


def _measured(contents: BundleContents, folder: Path) -> Measured:
    candidate = contents.candidate
    return Measured(
        identity=digest_file(folder / MANIFEST),
        accuracy=candidate.accuracy,
        latency=candidate.latency,
        throughput=candidate.throughput,
        against_float=candidate.against_float,
        compile_ns=contents.artifact.compile_ns,
        report_digest=digest_file(folder / REPORT) if contents.report is not None else "",
    )


def _session_source(session: str) -> bytes:
    """The session module as one file; nothing of it, nor of the packages it lies in, is imported."""
    file = module_file(session)
    found = "no module of that name with a source file"
    if file is not None and file.suffix == ".py":
        try:
            return standalone_source(file)
        except ValueError as error:
            found = str(error)
    raise OutputError(
        asked=f"pack the session module {session}",
        found=found,
        fix="name a module that can be imported (Artifact.session)",
    )


def _requirements(contents: BundleContents) -> str:
    """What run.py needs: numpy, and the runtime in the version that was measured."""
    backend = contents.artifact.backend
    version = contents.versions.get(backend) or contents.device.runtimes.get(backend)
    # The version as PyPI has it: some runtimes add a build number after a dash.
    return "numpy\n" + (f"{backend}=={version.split('-')[0]}\n" if version else f"{backend}\n")


def _readme(contents: BundleContents) -> str:
    stated = contents.provenance
    licence = f"The model is under {stated.licence}." if stated.licence else "The model's licence was not stated."
    if stated.author:
        licence += f" Its author: {stated.author}."
    return _README.format(
        name=contents.name,
        candidate=contents.candidate.name,
        cpu=contents.device.cpu,
        licence=licence,
        inputs=_readme_inputs(contents),
    )


def _readme_inputs(contents: BundleContents) -> str:
    """What `run.py` takes where preprocessing is declared; empty where it is not."""
    lines = []
    for spec in contents.model.inputs:
        if isinstance(spec.preprocessing, Preprocessing):
            lines.append(
                f"`{spec.name}` takes raw images (uint8), which `preprocess.py` prepares; image files need Pillow."
            )
        elif spec.preprocessing is not None:
            function = spec.preprocessing.function
            ships = spec.preprocessing.ship
            lines.append(
                f"`{spec.name}` takes raw items, which `{function}` prepares; install what its module imports."
                if ships
                else f"`{spec.name}` is made by `{function}`, which is not in here: give what it returns, with "
                "`--preprocessed`."
            )
    return "".join(f"\n{line}" for line in lines) + "\n" if lines else ""


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target, follow_symlinks=False)
    target.chmod(0o644)


def _copy_tree(source: Path, target: Path) -> None:
    target.mkdir()
    for path in sorted(source.iterdir()):
        if path.is_dir():
            _copy_tree(path, target / path.name)
        else:
            _copy(path, target / path.name)
