"""How a device is reached by the system's OpenSSH: the user's configuration, keys, agents and jump hosts count.

One connection is held for a whole session, so nothing is set up twice; a ControlMaster of the user's configuration is
used as it is. Host keys are always checked: the first connection to a host is made by its user, who looks at the key.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from edgeport.devices.bootstrap import COMMAND, NO_PROGRAM
from edgeport.devices.inventory import SshAddress
from edgeport.devices.ssh_errors import changed_key, no_connection, no_python, not_allowed, unknown_key
from edgeport.errors import DependencyError, DeviceError

__all__ = ["SshTransport"]

_OPTIONS = (
    "BatchMode=yes",  # nobody is there to be asked
    "StrictHostKeyChecking=yes",
    "ConnectTimeout=15",
    "ServerAliveInterval=5",
    "ServerAliveCountMax=3",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ClearAllForwardings=yes",
    "LogLevel=INFO",  # a quiet configuration would hide why there is no connection
    "RemoteCommand=none",
    "RequestTTY=no",
)
_LOOK_S = 30.0
_CHANGED = "REMOTE HOST IDENTIFICATION HAS CHANGED"
_UNKNOWN = re.compile(r"No .{0,40}host key is known for|Host key verification failed")
_OFFERED = re.compile(r"Server host key: (\S+) (SHA256:[A-Za-z0-9+/=]+)")
_OFFENDING = re.compile(r"Offending \S+ key in (.+):(\d+)")


class SshTransport:
    """A process of `ssh` that runs the first program on the device.

    Args:
        address: Of the device.

    """

    def __init__(self, address: SshAddress) -> None:
        self._address = address

    def command(self) -> list[str]:
        """See `Transport`.

        Raises:
            DependencyError: There is no `ssh` here.

        """
        return [*self._destination(), COMMAND]

    def explain(self, status: int | None, stderr: str) -> DeviceError:
        """See `Transport`."""
        if _CHANGED in stderr or _UNKNOWN.search(stderr):
            return self._wrong_key(stderr)
        if status == NO_PROGRAM:
            return no_python(self._address)
        last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "")
        if "Permission denied" in stderr:
            return not_allowed(self._address, last)
        ended = "no answer in time" if status is None else f"that ssh ended with status {status}"
        return no_connection(self._address, last or ended)

    def _destination(self, *more: str) -> list[str]:
        program = shutil.which("ssh")
        if program is None:
            raise DependencyError(
                asked=f"connect to {self._address}", found="no ssh on this machine", fix="install OpenSSH's client"
            )
        words = [program, "-T", *more]
        for option in _OPTIONS:
            words += ["-o", option]
        if self._address.port is not None:
            words += ["-p", str(self._address.port)]
        if self._address.user:
            words += ["-l", self._address.user]
        return [*words, "--", self._address.host]

    def _wrong_key(self, stderr: str) -> DeviceError:
        """Both fingerprints: what the host shows now, and what is known of it."""
        offered = self._offered()
        if _CHANGED not in stderr:
            return unknown_key(self._address, offered)
        offending = _OFFENDING.search(stderr)
        if offending is None:
            return changed_key(self._address, offered, "", "")
        known = _fingerprint(Path(offending[1]), int(offending[2]))
        return changed_key(self._address, offered, known, f"{offending[1]}, line {offending[2]}")

    def _offered(self) -> str:
        """The key that the host shows; ssh tells it when it is asked to say more, and ends for the same reason."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            asked = subprocess.run(
                [*self._destination("-v"), "exit"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LOOK_S,
                check=False,
            )
            keys = _OFFERED.findall(asked.stderr.decode(errors="replace"))
            if keys:
                return " ".join(keys[-1])  # those before are of jump hosts
        return "a key that could not be read"


def _fingerprint(known_hosts: Path, line: int) -> str:
    """`TYPE SHA256:...` of the key in a line of a file of known hosts (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT)."""
    try:
        words = known_hosts.read_text(encoding="utf-8", errors="replace").splitlines()[line - 1].split()
        kind, key = words[2:4] if words[0].startswith("@") else words[1:3]
        digest = hashlib.sha256(base64.b64decode(key, validate=True)).digest()
    except (OSError, IndexError, ValueError):
        return ""
    return f"{kind} SHA256:{base64.b64encode(digest).decode().rstrip('=')}"
