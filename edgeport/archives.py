"""Zip files from elsewhere (samples, checkpoints, exported programs), looked through before anything is unpacked."""

from __future__ import annotations

import re
import stat
import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edgeport.errors import UnsafeFileError

__all__ = ["ArchiveLimits", "check_archive"]

_LOCAL_HEADER_BYTES = 30  # APPNOTE.TXT 4.3.7, without name and extra field
_ENCRYPTED = 0x1  # APPNOTE.TXT 4.4.4, bit 0
_OUTSIDE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)|\0")
_SHOWN_CHARS = 80


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """What an archive may hold.

    Attributes:
        entries: At most so many.
        unpacked_bytes: At most so many in all.
        ratio: The archive may unpack to at most so many times its own size ...
        free_bytes: ... once it unpacks to more than this. Deflate can't go beyond 1032; samples rarely reach 20.

    """

    entries: int = 100_000
    unpacked_bytes: int = 1 << 40
    ratio: float = 100.0
    free_bytes: int = 256 << 20


def check_archive(
    path: Path,
    *,
    asked: str,
    paths: bool,
    limits: ArchiveLimits = ArchiveLimits(),
) -> None:
    """Refuses an archive that is made to harm, from its table of contents alone.

    Args:
        path: The archive.
        asked: What for, as the error says it ("read samples from s.npz").
        paths: Entries are named like files; without it their names are names of arrays, which may hold anything.
        limits: Of what it may hold.

    Raises:
        UnsafeFileError: Entries that are links, lie outside, overlap, are encrypted or share a name; or more, or larger
            when unpacked, than the limits allow.
        zipfile.BadZipFile: No zip file, or a damaged one.

    """
    with zipfile.ZipFile(path) as archive:
        entries, end = archive.infolist(), archive.start_dir
    found = (
        _too_much(entries, path.stat().st_size, limits)
        or _twisted(entries, end)
        or next((told for entry in entries if (told := _outside(entry, paths=paths))), "")
    )
    if found:
        raise UnsafeFileError(
            asked=asked,
            found=f"{found}; nothing was unpacked",
            fix="use a file whose maker you know, or write it again with the tool that made it",
        )


def _too_much(entries: list[zipfile.ZipInfo], packed_bytes: int, limits: ArchiveLimits) -> str:
    unpacked = sum(entry.file_size for entry in entries)
    if len(entries) > limits.entries:
        return f"{len(entries)} entries in it, more than {limits.entries}"
    if unpacked > limits.unpacked_bytes:
        return f"{unpacked} bytes when unpacked, more than {limits.unpacked_bytes}"
    if unpacked > limits.free_bytes and unpacked > limits.ratio * packed_bytes:
        return f"{packed_bytes} bytes that unpack to {unpacked}, more than {limits.ratio:g} times as many"
    return ""


def _twisted(entries: list[zipfile.ZipInfo], end: int) -> str:
    """One name twice, so that readers differ in what they see; or bytes that several entries share."""
    doubled = next((name for name, count in Counter(entry.filename for entry in entries).items() if count > 1), None)
    if doubled is not None:
        return f"two entries of the name {_short(doubled)}"
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    starts = [*(entry.header_offset for entry in ordered[1:]), end]
    for entry, following in zip(ordered, starts, strict=False):
        if entry.header_offset + _LOCAL_HEADER_BYTES + entry.compress_size > following:
            return f"the entry {_short(entry.filename)}, which overlaps another"
    return ""


def _outside(entry: zipfile.ZipInfo, *, paths: bool) -> str:
    if entry.flag_bits & _ENCRYPTED:
        return f"the encrypted entry {_short(entry.filename)}"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return f"the entry {_short(entry.filename)}, which is a link"
    if paths and _OUTSIDE.search(entry.filename):
        return f"the entry {_short(entry.filename)}, which lies outside of it"
    return ""


def _short(name: str) -> str:
    return repr(name if len(name) <= _SHOWN_CHARS else f"{name[:_SHOWN_CHARS]}...")
