"""Makes an isolated environment of Python on the device, for the runtimes that artifacts need."""

from __future__ import annotations

import secrets
import shutil
import sys
from pathlib import Path
from typing import Any

from edgeport.devices.agent.failure import JobError
from edgeport.devices.agent.rpc import Channel
from edgeport.devices.agent.supervisor import run_watched

_LIMITS = {"time_s": 3600.0, "memory_bytes": 1 << 50}
_SHOWN = 1500


def prepare(root: Path, packages: list[str], wheels: str | None, channel: Channel) -> dict[str, Any]:
    """A fresh environment with these packages, which the next agent runs in; the one before is removed.

    Args:
        root: Folder of Edgeport there.
        packages: Requirements of `pip`.
        wheels: A folder there; nothing is fetched from elsewhere then.
        channel: To the host.

    Returns:
        `python`: of the environment.

    Raises:
        JobError: There is no venv module, or `pip` could not install them.
        LinkLostError: The host is gone; what was made so far is removed.

    """
    folder = root / "environments"
    folder.mkdir(exist_ok=True)
    made = folder / secrets.token_hex(8)
    python = made / "bin" / "python"
    try:
        venv = [sys.executable, "-m", "venv", str(made)]
        _run(venv, "make an environment of Python", folder, channel, "install Python's venv there (python3-venv)")
        source = ["--no-index", "--find-links", wheels] if wheels is not None else []
        install = ["-m", "pip", "install", "--no-input", "--disable-pip-version-check", "--only-binary=:all:"]
        fix = (
            "bring wheels for its Python and processor (--wheels)"
            if wheels is None
            else "add the wheels that it misses"
        )
        _run([str(python), *install, *source, *packages], "install " + ", ".join(packages), folder, channel, fix)
        partial = folder / (made.name + ".part")
        partial.write_text(str(python), encoding="utf-8")
        partial.replace(folder / "current")
    except BaseException:
        shutil.rmtree(str(made), ignore_errors=True)
        raise
    for other in folder.iterdir():
        if other.is_dir() and other != made:
            shutil.rmtree(str(other), ignore_errors=True)
    return {"python": str(python)}


def _run(command: list[str], what: str, folder: Path, channel: Channel, fix: str) -> None:
    ended = run_watched(command, folder, _LIMITS, channel)
    if ended["status"] != 0:
        said = ended["stderr"].strip()[-_SHOWN:] or "status {}".format(ended["status"])
        raise JobError("DEVICE_FAILED", f"{what} on the device", said, fix)
