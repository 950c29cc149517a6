"""Whether a bundle may be written to a folder, and how an older one is taken away from there."""

from __future__ import annotations

from pathlib import Path

from edgeport.bundle.measured import MEASURED, REPORT
from edgeport.bundle.verify import MANIFEST, files_of, load_bundle
from edgeport.errors import ContractError, OutputError

__all__ = ["check_place", "remove_bundle"]


def check_place(folder: Path) -> None:
    """Sees to it that there is nothing, an empty folder, or a bundle and nothing else.

    Raises:
        OutputError: `folder` is a link, a file, a folder that is no bundle or whose manifest is damaged, or a bundle
            with files in it that its manifest does not name.

    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        found = "a link" if folder.is_symlink() else "a file"
        raise OutputError(asked=f"write the bundle {folder}", found=f"{found} of that name", fix="name another folder")
    if not folder.exists() or not any(folder.iterdir()):
        return
    try:
        known = _known(folder)
    except (OutputError, ContractError) as error:
        if "schema_version" in error.details:
            raise OutputError(
                asked=f"replace the bundle {folder} by one of schema version {error.details['needed']}",
                found=f"a bundle of {error.found}, so that it is not known which files are its own",
                fix="remove that folder, or move it elsewhere; or name another one with --output",
                details=error.details,
            ) from error
        raise OutputError(
            asked=f"write the bundle {folder}",
            found=f"a folder that is not empty, and no bundle: {error.found}",
            fix="name an empty or new folder, or remove this one",
        ) from error
    foreign = [name for name in files_of(folder) if name not in known]
    if foreign:
        raise OutputError(
            asked=f"replace the bundle {folder}",
            found=f"files that are not the bundle's own: {', '.join(foreign[:5])}",
            fix="move them elsewhere, or name another folder",
        )


def remove_bundle(folder: Path) -> None:
    """Takes away the files that the manifest names, the manifest, and the folders that are empty then.

    Nothing where there is no bundle. The manifest goes last: what a killed process leaves is a bundle still, with files
    missing, which the next call takes away.

    Raises:
        OutputError: As `check_place`, which is asked first; or a file can't be removed.

    """
    check_place(folder)
    if not folder.exists():
        return
    try:
        # Only what was found by walking down: a manifest may name anything, "../mine" too.
        known = _known(folder) if any(folder.iterdir()) else set()
        for name in sorted(files_of(folder), key=lambda name: name == MANIFEST):
            if name in known:
                (folder / name).unlink()
        for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            path.rmdir()
        folder.rmdir()
    except OSError as error:
        raise OutputError(
            asked=f"replace the bundle {folder}", found=str(error), fix="remove it yourself, or name another folder"
        ) from error


def _known(folder: Path) -> set[str]:
    return {*load_bundle(folder).manifest.files, MANIFEST, MEASURED, REPORT}
