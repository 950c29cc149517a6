"""Packs the agent and session modules into one zipapp, byte for byte the same each time."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path

from edgeport.atomic import atomic_write
from edgeport.devices.agent.sessions import packed_name
from edgeport.errors import DeviceError
from edgeport.module_files import module_file, standalone_source

__all__ = ["build_agent"]

_AGENT = Path(__file__).parent / "agent"
_PACKAGE = "edgeport/devices/agent"
_MAIN = """import os
import sys

if sys.argv[1:2] == ["serve"]:  # which needs no numpy: a device that is not prepared yet may have none
    from edgeport.devices.agent.serving import main

    status = main(sys.argv[2:])
elif sys.argv[1:] == ["watch"]:
    from edgeport.devices.agent.sensor_sampler import main

    status = main()
else:
    from edgeport.devices.agent.program import main

    status = main(sys.argv[1:])
sys.stderr.flush()
# The result is on disk: a runtime that crashes while it is unloaded must not undo that.
os._exit(status)
"""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first moment that zip knows; a real date would change the bytes
_DIGEST_CHARS = 16


def build_agent(sessions: Iterable[str], folder: Path) -> Path:
    """The agent with these session modules, built in `folder` unless it is there already.

    Args:
        sessions: Dotted names of session modules (`Artifact.session`); they are found, but not imported.
        folder: Where the archive goes, named after the digest of its content.

    Returns:
        Path of `agent-DIGEST.pyz`; run as `python agent-DIGEST.pyz JOB.json RESULT.json`, or with
            `serve FOLDER` and a host at stdin and stdout.

    Raises:
        DeviceError: There is no such module, it has no source file, or it can't ship as one.

    """
    content = _zip(_agent_files() | {f"{packed_name(name)}.py": _source(name) for name in sessions})
    path = folder / f"agent-{hashlib.sha256(content).hexdigest()[:_DIGEST_CHARS]}.pyz"
    if not path.exists() or path.read_bytes() != content:
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content)  # several jobs may build the same agent at once
    return path


def _agent_files() -> dict[str, bytes]:
    """The agent under its full dotted name, in packages that hold nothing else of ours."""
    files = {f"{_PACKAGE}/{path.name}": path.read_bytes() for path in _AGENT.glob("*.py")}
    empty = b'"""Only the agent is here."""\n'
    return {"__main__.py": _MAIN.encode(), "edgeport/__init__.py": empty, "edgeport/devices/__init__.py": empty} | files


def _source(session: str) -> bytes:
    file = module_file(session)  # which imports nothing, not even the packages that the module lies in
    if file is None:
        raise _missing(session, "no such module")
    if file.suffix != ".py":
        raise _missing(session, f"a module without a source file ({file})")
    try:
        return standalone_source(file)
    except ValueError as error:
        raise _missing(session, str(error)) from error


def _missing(session: str, found: str) -> DeviceError:
    return DeviceError(
        asked=f"pack the session module {session}",
        found=found,
        fix="name an importable module of one .py file (standard library, numpy and the runtime only)",
    )


def _zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.compress_type = zipfile.ZIP_STORED  # zlib's bytes differ between its versions
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, files[name])
    return buffer.getvalue()
