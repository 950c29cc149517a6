"""`edgeport devices`."""

from __future__ import annotations

from pathlib import Path

import click

from edgeport.cli.options import FOLDER
from edgeport.cli.output import Output, lines, output_options

__all__ = ["command"]


@click.group(name="devices")
def command() -> None:
    """The devices that artifacts are validated and timed on.

    \b
    Example:
      edgeport devices add pi5 ssh://pi@raspberrypi.local
    """  # noqa: D301 (click's own mark against wrapping)


@command.command(name="add")
@click.argument("name")
@click.argument("address")
@output_options
def add(*, name: str, address: str, output: Output) -> int:
    """Keeps the device at ADDRESS under NAME: ssh://[user@]host[:port], adb://SERIAL, local, or of an installed kind.

    The host is reached by the system's ssh, with your own configuration, keys, agent and jump hosts; nothing is
    connected yet. With asyncssh:// instead of ssh:// it is reached by asyncssh (the extra `ssh`), for many at once.

    \b
    Examples:
      edgeport devices add pi5 ssh://pi@raspberrypi.local
      edgeport devices add phone adb://0123456789ABCDEF
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api

    _show(api.add_device(name, address), output)
    return 0


@command.command(name="list")
@output_options
def list_(*, output: Output) -> int:
    """Every device by name, with its address.

    \b
    Example:
      edgeport devices list
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api

    _show(api.list_devices(), output)
    return 0


@command.command(name="remove")
@click.argument("name")
@output_options
def remove(*, name: str, output: Output) -> int:
    """Forgets the device NAME; what lies on it stays there (see `edgeport devices clean`).

    \b
    Example:
      edgeport devices remove pi5
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api

    _show(api.remove_device(name), output)
    return 0


@command.command(name="profiles")
@output_options
def profiles(*, output: Output) -> int:
    """Kinds of devices, with the dialects and precisions that are right for them before one is asked.

    \b
    Example:
      edgeport devices profiles
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_devices import draw_profiles
    from edgeport.contracts import to_jsonable

    known = api.device_profiles()
    output.show(
        lambda: {"profiles": [to_jsonable(one) for one in known.values()]},
        lambda console: draw_profiles(console, list(known.values())),
    )
    return 0


@command.command(name="probe")
@click.argument("name")
@output_options
def probe(*, name: str, output: Output) -> int:
    """What the device NAME is and has, and which sources of evidence it lacks.

    \b
    Example:
      edgeport devices probe local
    """  # noqa: D301 (click's own mark against wrapping)
    from edgeport import api
    from edgeport.cli.render_devices import draw_probe
    from edgeport.contracts import to_jsonable

    found = api.probe_device(name)
    output.show(lambda: to_jsonable(found), lambda console: draw_probe(console, found))
    return 0


@command.command(name="prepare")
@click.argument("name")
@click.option("--package", "packages", multiple=True, metavar="NAME[==VERSION]", help="[default: numpy, onnxruntime]")
@click.option("--wheels", type=FOLDER, help="Brought there and installed from; the device needs no network.")
@output_options
def prepare(*, name: str, packages: tuple[str, ...], wheels: Path | None, output: Output) -> int:
    """Makes an isolated environment of Python on the device NAME, with the runtimes that artifacts need.

    \b
    Examples:
      edgeport devices prepare pi5
      edgeport devices prepare pi5 --package numpy --package onnxruntime==1.22.0
    """  # noqa: D301 (click's own mark against wrapping)
    from rich.text import Text

    from edgeport import api
    from edgeport.cli.text import clean
    from edgeport.contracts import to_jsonable

    facts = api.prepare_device(name, packages=packages or ("numpy", "onnxruntime"), wheels=wheels)
    has = ", ".join(f"{one} {version}" for one, version in facts.runtimes.items())
    said = clean(f"{name}: Python {facts.python} with {has}")
    output.show(lambda: to_jsonable(facts), lambda console: lines(console, Text(said)))
    return 0


@command.command(name="clean")
@click.argument("name")
@output_options
def clean_(*, name: str, output: Output) -> int:
    """Removes everything that Edgeport keeps on the device NAME.

    \b
    Example:
      edgeport devices clean pi5
    """  # noqa: D301 (click's own mark against wrapping)
    from rich.text import Text

    from edgeport import api
    from edgeport.cli.formatting import bytes_of
    from edgeport.cli.text import clean

    found = api.clean_device(name)
    said = clean(f"{name}: {bytes_of(found['freed_bytes'])} removed from {found['folder']}")
    output.show(lambda: found, lambda console: lines(console, Text(said)))
    return 0


def _show(devices: dict[str, str], output: Output) -> None:
    from rich.text import Text

    from edgeport.cli.text import clean

    width = max(map(len, devices))
    output.show(
        lambda: {"devices": devices},
        lambda console: lines(console, *(Text(clean(f"{name:<{width}}  {at}")) for name, at in devices.items())),
    )
