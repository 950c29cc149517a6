"""How a device is reached by asyncssh instead of the system's OpenSSH: no process for each of many devices.

All connections of this process share one thread. The user's configuration counts as far as asyncssh knows it (hosts,
users, ports, keys, agents, jump hosts, files of known hosts). Host keys are always checked, also of jump hosts and also
where the configuration says otherwise: asyncssh would take any key where there is no file of known hosts.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import subprocess
import threading
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from edgeport.devices.bootstrap import COMMAND, NO_PROGRAM
from edgeport.devices.inventory import SshAddress
from edgeport.devices.ssh_errors import changed_key, no_connection, no_python, not_allowed, unknown_key
from edgeport.errors import DependencyError, DeviceError

__all__ = ["AsyncSshTransport"]

_T = TypeVar("_T")
_CONNECT_S = 15
_ALIVE_S, _ALIVE_COUNT = 5, 3
_LOST = 255
"""Status of `ssh` when its connection broke."""
_MOST_JUMPS = 8
_CONFIGURATIONS = (Path("~/.ssh/config"), Path("/etc/ssh/ssh_config"))
_USERS_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_SYSTEMS_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_JUMP = re.compile(r"(?:(?P<user>[^@]+)@)?(?P<host>\[[^]]+\]|[^:]+)(?::(?P<port>[0-9]+))?")


class AsyncSshTransport:
    """A connection of asyncssh, on which the first program runs on the device.

    Args:
        address: Of the device.
        config: Files of OpenSSH's client configuration; the user's and the system's by default.

    """

    def __init__(self, address: SshAddress, config: Sequence[Path] | None = None) -> None:
        self._address = address
        files = _CONFIGURATIONS if config is None else config
        self._config = [path for path in map(_at_home, files) if os.access(path, os.R_OK)]

    def start(self) -> Process:
        """See `StartingTransport`.

        Raises:
            DependencyError: asyncssh is not installed.
            DeviceError: There is no connection.

        """
        try:
            import asyncssh  # noqa: F401 (what follows imports it on another thread)
        except ImportError as error:
            raise DependencyError(
                asked=f"connect to {self._address}",
                found="no asyncssh here",
                fix="pip install 'edgeport[ssh]', or give the device an address with ssh://",
            ) from error
        return _do(self._open())

    def explain(self, status: int | None, stderr: str) -> DeviceError:
        """See `Transport`."""
        if status == NO_PROGRAM:
            return no_python(self._address)
        last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "")
        ended = "no answer in time" if status is None else f"that the first program ended with status {status}"
        return no_connection(self._address, last or ended)

    async def _open(self) -> Process:
        port = self._address.port if self._address.port is not None else ()
        hops = await self._connect(self._address.host, self._address.user or (), port)
        try:
            return await _run(hops)
        except BaseException as error:
            await _leave(hops)
            if isinstance(error, _failures()):
                raise no_connection(self._address, _said(error)) from error
            raise

    async def _connect(
        self, host: str, user: Any, port: Any, *, after: tuple[str, ...] = (), through: tuple[Any, ...] | None = None
    ) -> tuple[Any, ...]:
        """The connections to a host and to the jump hosts on the way to it, the last one first.

        Args:
            host: Name, alias or address.
            user: Empty: what the configuration says.
            port: Empty: what the configuration says.
            after: Names of the hosts that are to be reached through this one.
            through: Connections to the jump hosts; None: those that the configuration says.

        """
        import asyncssh

        seen = _HostKeys()
        hops, failures = through or (), _failures()
        try:
            options = asyncssh.SSHClientConnectionOptions(
                config=self._config, host=host, port=port, username=user, known_hosts=b""
            )
            if through is None:
                hops = await self._jump(options.config.get("ProxyJump"), (*after, host))
            known = _Known(_files(options.config), seen)
            connection = await asyncssh.connect(
                host,
                port,
                username=user,
                config=self._config,
                tunnel=hops[0] if hops else None,
                known_hosts=known.match,
                client_factory=functools.partial(_client, seen),
                password_auth=False,  # nobody is there to be asked
                kbdint_auth=False,
                ignore_encrypted=True,
                agent_forwarding=False,
                x11_forwarding=False,
                connect_timeout=_CONNECT_S,
                keepalive_interval=_ALIVE_S,
                keepalive_count_max=_ALIVE_COUNT,
            )
        except failures as error:
            try:
                raise await self._refusal(error, seen, host, hops) from error
            finally:
                await _leave(hops)
        except BaseException:
            await _leave(hops)
            raise
        return (connection, *hops)

    async def _jump(self, jumps: Any, after: tuple[str, ...]) -> tuple[Any, ...]:
        """To the last of the jump hosts, each through the one before it; ssh_config(5), ProxyJump."""
        if len(after) > _MOST_JUMPS:
            raise no_connection(self._address, f"jump hosts without end: {', '.join(after)}")
        hops: tuple[Any, ...] | None = None
        for jump in str(jumps).split(",") if jumps else ():
            parts = _JUMP.fullmatch(jump.strip())
            if parts is None:
                await _leave(hops or ())
                raise no_connection(self._address, f"a jump host {jump!r} that asyncssh can't reach")
            port = int(parts["port"]) if parts["port"] else ()
            hops = await self._connect(parts["host"].strip("[]"), parts["user"] or (), port, after=after, through=hops)
        return hops or ()

    async def _refusal(self, error: BaseException, seen: _HostKeys, host: str, hops: tuple[Any, ...]) -> DeviceError:
        """Why a host, the last one behind these, was not reached."""
        import asyncssh

        of = self._address if host == self._address.host else SshAddress(host=host, client=self._address.client)
        broke = isinstance(error, asyncssh.Error) and not isinstance(error, asyncssh.PermissionDenied)
        if broke and seen.known and not seen.offered:
            # It may have no key of the kind that is known, and hang up on hearing so: ask which one it has.
            with suppress(*_failures()):
                way = hops[0] if hops else None
                asking = asyncssh.get_server_host_key(host, seen.port or (), tunnel=way, config=self._config)
                key = await asyncio.wait_for(asking, _CONNECT_S)
                shown = _name(key) if key is not None else ""
                seen.offered = shown if shown not in {name for name, _ in seen.known} else ""
        if seen.offered and not seen.known:
            return unknown_key(of, seen.offered)
        if seen.offered:
            known, where = seen.known[0]
            return changed_key(of, seen.offered, known, where)
        if isinstance(error, asyncssh.PermissionDenied):
            return not_allowed(of, f"Permission denied ({error.reason})")
        return no_connection(of, _said(error))


class Process:
    """The first program on the device, as if it were a process here; see `link.Ends`."""

    def __init__(self, ends: tuple[IO[bytes], IO[bytes], IO[bytes]], program: Any, hops: tuple[Any, ...]) -> None:
        self.stdin, self.stdout, self.stderr = ends
        self.returncode: int | None = None
        self._program = program
        self._hops = hops
        self._ended = threading.Event()

    def poll(self) -> int | None:
        """Its status; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its status, as soon as it has ended and the connection is closed.

        Raises:
            subprocess.TimeoutExpired: It has not.

        """
        if not self._ended.wait(timeout) or self.returncode is None:
            raise subprocess.TimeoutExpired("asyncssh", timeout or 0.0)
        return self.returncode

    def kill(self) -> None:
        """Breaks the connection: what runs there sees it, and ends."""
        _loop().call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        for hop in self._hops:
            hop.abort()

    async def watch(self) -> None:
        """Until it has ended."""
        try:
            with suppress(*_failures()):
                await self._program.wait_closed()
            status = self._program.exit_status
            with suppress(*_failures()):
                await asyncio.wait_for(_leave(self._hops), _ALIVE_S)
        finally:
            self.returncode = _LOST if status is None else status
            self._ended.set()


@dataclass(kw_only=True)
class _HostKeys:
    """What was found of host keys.

    Attributes:
        offered: Type and fingerprint of the key that the host shows, where it is not the known one.
        known: The same of each that is known, with file and line.
        port: None where it is the usual one.

    """

    offered: str = ""
    known: list[tuple[str, str]] = field(default_factory=list)
    port: int | None = None


@dataclass(frozen=True, kw_only=False)
class _Known:
    """Keys in files of known hosts."""

    files: Sequence[Path]
    seen: _HostKeys

    def match(self, host: str, addr: str, port: int | None) -> Any:
        """The keys of a host, as asyncssh asks for them; what is known is noted down."""
        import asyncssh

        lines = {line: f"{path}, line {number}" for path in self.files for number, line in _lines(path)}
        found = asyncssh.import_known_hosts("".join(lines)).match(host, addr, port)
        self.seen.port = port
        for line, where in lines.items():
            keys = asyncssh.import_known_hosts(line).match(host, addr, port)[0]
            self.seen.known += [(_name(key), where) for key in keys if key in found[0]]
        return found


def _lines(path: Path) -> list[tuple[int, str]]:
    """Those that are well-formed, by number; OpenSSH passes over the others too."""
    import asyncssh

    found = []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    for number, line in enumerate(text.splitlines(), start=1):
        with suppress(*_failures()):
            asyncssh.import_known_hosts(line + "\n")
            found.append((number, line + "\n"))
    return found


def _files(config: Any) -> list[Path]:
    """Of known hosts, as ssh_config(5) has them: those that the configuration names, else the usual ones."""
    listed = []
    for option, usual in (("UserKnownHostsFile", _USERS_FILES), ("GlobalKnownHostsFile", _SYSTEMS_FILES)):
        named = config.get(option, usual)
        listed += [Path(_at_home(name)) for name in named or ()]
    return listed


def _at_home(path: object) -> str:
    """With the user's home in place of `~`; as it is where nobody knows one, which `Path.expanduser` does not bear."""
    return os.path.expanduser(str(path))  # noqa: PTH111


def _client(seen: _HostKeys) -> Any:
    import asyncssh

    class Client(asyncssh.SSHClient):
        """Notes the host key that it is asked about, and takes none that is not known."""

        def validate_host_public_key(self, host: str, addr: str, port: int, key: Any) -> bool:
            del host, addr, port
            seen.offered = _name(key)
            return False

    return Client()


async def _run(hops: tuple[Any, ...]) -> Process:
    """The first program on the first of the connections, with pipes at its ends."""
    theirs, ours = [], []
    for reads in (True, False, False):
        source, sink = os.pipe()
        theirs.append(source if reads else sink)
        ours.append(os.fdopen(sink, "wb", buffering=0) if reads else os.fdopen(source, "rb", buffering=0))
    try:
        program = await hops[0].create_process(
            COMMAND, encoding=None, stdin=theirs[0], stdout=theirs[1], stderr=theirs[2], request_pty=False
        )
    except BaseException:
        for end in ours:
            end.close()
        raise
    process = Process((ours[0], ours[1], ours[2]), program, hops)
    watching = asyncio.ensure_future(process.watch())
    _WATCHING.add(watching)
    watching.add_done_callback(_WATCHING.discard)
    return process


_WATCHING: set[asyncio.Future[None]] = set()
"""The loop itself would forget them."""


async def _leave(hops: Sequence[Any]) -> None:
    for hop in hops:
        hop.close()
    for hop in hops:
        with suppress(*_failures()):
            await hop.wait_closed()


def _name(key: Any) -> str:
    """`TYPE SHA256:...`, as OpenSSH writes it."""
    return f"{key.get_algorithm()} {key.get_fingerprint()}"


def _said(error: BaseException) -> str:
    if isinstance(error, OSError) and error.errno and not isinstance(error, TimeoutError):
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror or error)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(getattr(error, "reason", "") or error or type(error).__name__)


def _failures() -> tuple[type[Exception], ...]:
    """Of a network, of asyncssh, and of files that it can't read."""
    import asyncssh

    return (OSError, ValueError, asyncssh.Error)


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Of all connections of this process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="edgeport-asyncssh", daemon=True).start()
    return loop


def _do(work: Coroutine[Any, Any, _T]) -> _T:
    """On the loop's thread; an interruption here ends it there."""
    future = asyncio.run_coroutine_threadsafe(work, _loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise
