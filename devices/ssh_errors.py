"""What keeps a host from being reached over SSH, said alike whichever client found it."""

from __future__ import annotations

from edgeport.devices.inventory import SshAddress
from edgeport.errors import DeviceError

__all__ = ["by_hand", "changed_key", "no_connection", "no_python", "not_allowed", "unknown_key"]


def by_hand(address: SshAddress) -> str:
    """What its user may type, to see for themselves."""
    port = f" -p {address.port}" if address.port is not None else ""
    return f"ssh{port} {address.user}{'@' * bool(address.user)}{address.host}"


def no_python(address: SshAddress) -> DeviceError:
    """The host answered, and has no interpreter."""
    return DeviceError(
        asked=f"start the agent on {address}",
        found="no python3 there",
        fix="install Python 3.8 or newer there, as python3",
    )


def not_allowed(address: SshAddress, said: str) -> DeviceError:
    """It takes none of the user's keys."""
    return DeviceError(
        asked=f"connect to {address}",
        found=said,
        fix="give it your key: ssh-copy-id, or ssh-add for a key with a passphrase (no password is ever asked)",
    )


def no_connection(address: SshAddress, said: str) -> DeviceError:
    """Anything else."""
    return DeviceError(asked=f"connect to {address}", found=said[:500], fix=f"see what it says to: {by_hand(address)}")


def unknown_key(address: SshAddress, offered: str) -> DeviceError:
    """Nobody has looked at its key yet.

    Args:
        address: Of the host.
        offered: Type and fingerprint of the key that it shows.

    """
    return DeviceError(
        asked=f"connect to {address}",
        found=f"an unknown host key: it shows {offered}, and none is known",
        fix=f"compare it with the device's own (ssh-keygen -lf on it), then connect once by hand: {by_hand(address)}",
        details={"offered": offered, "known": ""},
    )


def changed_key(address: SshAddress, offered: str, known: str, where: str) -> DeviceError:
    """It shows another key than the one that is known.

    Args:
        address: Of the host.
        offered: Type and fingerprint of the key that it shows.
        known: Of the one that is known; empty where it can't be told.
        where: File and line of that one, or empty.

    """
    return DeviceError(
        asked=f"connect to {address}",
        found=f"another host key: it shows {offered}, and {known or 'another one'} is known{where and f' ({where})'}",
        fix=(
            "find out why it changed; if the device was set up anew, remove the known key (ssh-keygen -R) and"
            f" connect once by hand: {by_hand(address)}"
        ),
        details={"offered": offered, "known": known},
    )
