"""An SSH server on the loopback, in this process, and an `ssh` that knows it and nothing of the user's.

The client is the system's own; the server is asyncssh's, with commands in a home folder of their own.
"""

from __future__ import annotations

import asyncio
import shlex
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import asyncssh


class SshServer:
    """A host `board` with one user.

    Args:
        folder: Gets the home of the user there (`home`), keys, and `bin` with the `ssh` to be found in PATH.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.bin = folder / "bin"
        self.known_hosts = folder / "known_hosts"
        self.greeting = b""
        self.jumps = False
        self.commands: list[str] = []
        self.sent_bytes = 0
        self.cut_after_bytes: float = float("inf")
        self._connections: set[asyncssh.SSHServerConnection] = set()
        self._served: set[asyncio.Task] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        for made in (self.home, self.bin, folder / "device-bin"):
            made.mkdir(parents=True)
        self.key = asyncssh.generate_private_key("ssh-ed25519")
        client = asyncssh.generate_private_key("ssh-ed25519")
        client.write_private_key(folder / "id")
        client.write_public_key(folder / "id.pub")
        (folder / "id").chmod(0o600)
        _script(folder / "device-bin" / "python3", f'exec {shlex.quote(sys.executable)} "$@"')
        self.environment = {
            "HOME": str(self.home),
            "PATH": f"{folder / 'device-bin'}:/usr/bin:/bin",
            "EDGEPORT_LOCK_DIR": str(self.home),
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._listener = self._wait(self._listen(0))
        self.port = self._listener.get_port()
        self.trust()
        (folder / "config").write_text(
            f"Host board\n  HostName 127.0.0.1\n  Port {self.port}\n  User tester\n  HostKeyAlias board\n"
            f"  IdentityFile {folder / 'id'}\n  IdentitiesOnly yes\n  UserKnownHostsFile {self.known_hosts}\n"
            "  GlobalKnownHostsFile /dev/null\n"
        )
        real = "/usr/bin/ssh"
        _script(self.bin / "ssh", f'exec {shlex.quote(real)} -F {shlex.quote(str(folder / "config"))} "$@"')

    def trust(self, key: asyncssh.SSHKey | None = None) -> None:
        """The user knows this key of the host; the right one by default."""
        public = (key or self.key).export_public_key().decode().strip()
        self.known_hosts.write_text(f"board {public}\n")

    def fingerprint(self, key: asyncssh.SSHKey | None = None) -> str:
        return (key or self.key).get_fingerprint()

    def cut(self) -> None:
        """Breaks all connections, as a cable that is pulled."""

        async def abort() -> None:
            self._abort()

        self._wait(abort())

    def _abort(self) -> None:
        for connection in list(self._connections):
            connection.abort()

    def close(self) -> None:
        self.cut()
        self._wait(self._listen_no_more())
        self._wait(self._end_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def processes(self) -> list[str]:
        """Command lines of what runs there."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with suppress(OSError):
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if str(self.home) in line:
                        found.append(f"{entry.name} {line}")
        return found

    def left(self, within_s: float = 60.0) -> list[str]:
        """What still runs there after that long; the wait ends as soon as nothing does.

        An agent sees the end of its link at once, but must be given a processor to act on it: a busy machine may take
        many seconds. So the time is only long enough to tell a process that never ends.
        """
        until = time.monotonic() + within_s
        while (running := self.processes()) and time.monotonic() < until:
            time.sleep(0.1)
        return running

    def _wait(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self, port: int):
        return await asyncssh.listen(
            "127.0.0.1",
            port,
            server_factory=lambda: _Connections(self),
            server_host_keys=[self.key],
            authorized_client_keys=str(self.folder / "id.pub"),
            process_factory=self._serve,
            encoding=None,
        )

    async def _listen_no_more(self) -> None:
        self._listener.close()
        await self._listener.wait_closed()

    async def _end_all(self) -> None:
        if self._served:
            await asyncio.wait(self._served, timeout=10)

    async def _serve(self, process: asyncssh.SSHServerProcess) -> None:
        self._served.add(asyncio.current_task())
        asyncio.current_task().add_done_callback(self._served.discard)
        self.commands.append(process.command)
        if self.greeting:
            process.stdout.write(self.greeting)
        child = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            process.command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment,
            cwd=self.home,
        )
        feeding = asyncio.ensure_future(self._feed(process.stdin, child.stdin))
        with suppress(asyncssh.Error, OSError):
            await asyncio.gather(_pump(child.stdout, process.stdout), _pump(child.stderr, process.stderr))
            process.exit(await child.wait())
        await child.wait()
        feeding.cancel()

    async def _feed(self, source, sink) -> None:
        try:
            while data := await source.read(1 << 16):
                self.sent_bytes += len(data)
                sink.write(data)
                await sink.drain()
                if self.sent_bytes > self.cut_after_bytes:
                    self.cut_after_bytes = float("inf")
                    self._abort()
        except (asyncssh.Error, OSError):
            pass
        finally:
            sink.close()


async def _pump(source, sink) -> None:
    while data := await source.read(1 << 16):
        sink.write(data)
        await sink.drain()


class _Connections(asyncssh.SSHServer):
    def __init__(self, server: SshServer) -> None:
        self._server = server
        self._known = server._connections

    def connection_made(self, conn) -> None:
        self._conn = conn
        self._known.add(conn)

    def connection_lost(self, exc) -> None:
        self._known.discard(self._conn)

    def connection_requested(self, dest_host, dest_port, orig_host, orig_port) -> bool:
        """To itself only."""
        return self._server.jumps and dest_port == self._server.port


def _script(path: Path, line: str) -> None:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
