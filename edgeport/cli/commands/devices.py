"""`edgeport devices`."""

from __future__ import annotations

import click

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
    """Keeps the device at ADDRESS under NAME: ssh://[user@]host[:port], adb://SERIAL or local.

    The host is reached by the system's ssh, with your own configuration, keys, agent and jump hosts; nothing is
    connected yet.

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


def _show(devices: dict[str, str], output: Output) -> None:
    from rich.text import Text

    from edgeport.cli.text import clean

    width = max(map(len, devices))
    output.show(
        lambda: {"devices": devices},
        lambda console: lines(console, *(Text(clean(f"{name:<{width}}  {at}")) for name, at in devices.items())),
    )
