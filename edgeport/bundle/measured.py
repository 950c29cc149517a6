"""What was measured of a bundle, beside what it is: no two measurements agree, so that it has a file of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from edgeport.contracts import Measured, digest_file, digest_json, load_json, to_jsonable
from edgeport.errors import ContractError

__all__ = ["MEASURED", "REPORT", "load_measured", "measured_problems", "write_measured"]

MEASURED, REPORT = "measured.json", "report.html"
_LARGEST_BYTES = 16 << 20


def write_measured(measured: Measured, folder: Path) -> None:
    """Writes it with its checksum."""
    whole = replace(measured, checksum=_checksum(measured))
    text = json.dumps(to_jsonable(whole), indent=2, sort_keys=True, ensure_ascii=False)
    (folder / MEASURED).write_text(text + "\n", encoding="utf-8", newline="\n")


def load_measured(folder: Path) -> Measured:
    """What was measured of the bundle in `folder`.

    Raises:
        ContractError: It is not there, a link, damaged, or of another schema version.

    """
    path = folder / MEASURED
    if path.is_symlink() or not path.is_file() or path.stat().st_size > _LARGEST_BYTES:
        raise ContractError(
            asked=f"read {MEASURED} of the bundle {folder.name}", found="no such file", fix="get the bundle again"
        )
    measured = load_json(Measured, path.read_bytes())
    if measured.checksum != _checksum(measured):
        raise ContractError(
            asked=f"read {MEASURED} of the bundle {folder.name}",
            found="changed since the bundle was written",
            fix="get the bundle again",
        )
    return measured


def measured_problems(folder: Path, identity: str) -> list[str]:
    """What is wrong with it and with the report, a sentence each.

    Args:
        folder: Of the bundle.
        identity: SHA-256 of its manifest.

    """
    try:
        measured = load_measured(folder)
    except ContractError as error:
        return [f"{MEASURED}: {error.found}"]
    problems = []
    if measured.identity != identity:
        problems.append(f"{MEASURED}: of another bundle than this one")
    report = folder / REPORT
    if measured.report_digest and (report.is_symlink() or not report.is_file()):
        problems.append(f"{REPORT}: missing")
    elif measured.report_digest and digest_file(report) != measured.report_digest:
        problems.append(f"{REPORT}: changed since the bundle was written")
    elif not measured.report_digest and report.exists():
        problems.append(f"{REPORT}: not of this bundle")
    return problems


def _checksum(measured: Measured) -> str:
    return digest_json(replace(measured, checksum=""))
