"""Several hosts on this machine: each a network namespace with OpenSSH's own server. Needs root, `ip` and `sshd`."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

SSHD = "/usr/sbin/sshd"
_LISTENS_S = 20.0


def missing() -> str:
    """Why there can be none here; empty where there can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "only root makes network namespaces"
    for program in ("ip", "ssh", "ssh-keygen"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    if not Path(SSHD).exists():
        return "sshd is not installed"
    tried = subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False)
    return "" if tried.returncode == 0 else "this machine makes no network namespaces"


class Boards:
    """Hosts `board0`, `board1`, ... that `ssh` in `bin` reaches by these names.

    Args:
        folder: Gets keys, logs, and a folder for each host in which everything that is brought there lies.
        count: How many.

    """

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.bin = folder, folder / "bin"
        self.names = [f"board{index}" for index in range(count)]
        self._spaces: list[str] = []
        self._servers: list[subprocess.Popen] = []
        self.bin.mkdir(parents=True)
        for key in ("host", "id"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
        _script(folder / "device-bin" / "python3", f'exec {shlex.quote(sys.executable)} "$@"')
        _script(self.bin / "ssh", f'exec {shutil.which("ssh")} -F {shlex.quote(str(folder / "config"))} "$@"')
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd wants it, for the part of it that has no rights
        try:
            for index in range(count):
                self._start(index)
            self._write_client()
            self._wait()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for server in self._servers:
            server.terminate()
        for server in self._servers:
            server.wait()
        for space in self._spaces:
            subprocess.run(["ip", "netns", "del", space], check=False)

    def _start(self, index: int) -> None:
        space, here, there = f"edgeport{os.getpid()}-{index}", f"edh{os.getpid() % 10**6}{index}", f"edt{index}"
        _ip("netns", "add", space)
        self._spaces.append(space)
        _ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", space)
        _ip("addr", "add", f"{_address(index, 1)}/30", "dev", here)
        _ip("link", "set", here, "up")
        for words in (("addr", "add", f"{_address(index, 2)}/30", "dev", there), ("link", "set", there, "up")):
            _ip("-n", space, *words)
        home = self.folder / self.names[index]
        home.mkdir()
        config = self.folder / f"sshd{index}"
        config.write_text(
            f"ListenAddress {_address(index, 2)}:22\nHostKey {self.folder / 'host'}\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.folder / 'id.pub'}\nStrictModes no\nPasswordAuthentication no\n"
            f"SetEnv XDG_CACHE_HOME={home} EDGEPORT_LOCK_DIR={home} OPENBLAS_NUM_THREADS=1"
            f" PATH={self.folder / 'device-bin'}:/usr/bin:/bin\n"
        )
        with (self.folder / f"sshd{index}.log").open("wb") as log:
            command = ["ip", "netns", "exec", space, SSHD, "-D", "-e", "-f", config]
            self._servers.append(subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL))

    def _write_client(self) -> None:
        key = (self.folder / "host.pub").read_text().split()[:2]
        (self.folder / "known_hosts").write_text("".join(f"{name} {' '.join(key)}\n" for name in self.names))
        (self.folder / "config").write_text(
            "".join(
                f"Host {name}\n  HostName {_address(index, 2)}\n  HostKeyAlias {name}\n"
                for index, name in enumerate(self.names)
            )
            + f"Host *\n  User root\n  IdentityFile {self.folder / 'id'}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {self.folder / 'known_hosts'}\n  GlobalKnownHostsFile /dev/null\n"
        )

    def _wait(self) -> None:
        until = time.monotonic() + _LISTENS_S
        logs = [self.folder / f"sshd{index}.log" for index in range(len(self.names))]
        while not all("Server listening" in log.read_text() for log in logs):
            assert time.monotonic() < until, [log.read_text() for log in logs]
            time.sleep(0.05)


def _address(index: int, host: int) -> str:
    """In 198.18.0.0/15, which is for tests of networks (RFC 2544); another network for each process and board."""
    network = 4 * ((16 * os.getpid() + index) % (1 << 15))
    return f"198.{18 + (network >> 16)}.{network >> 8 & 255}.{(network & 255) + host}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _script(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
