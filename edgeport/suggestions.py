"""Names as people type them: which known one was meant."""

from __future__ import annotations

from collections.abc import Iterable

from edgeport.errors import UsageError

__all__ = ["did_you_mean", "require_known"]


def did_you_mean(name: str, known: Iterable[str], otherwise: str, *, cutoff: float = 0.6) -> str:
    """The last part of an error: the known name nearest to `name`, or another advice where none is near.

    Args:
        name: As it was typed.
        known: Names that there are.
        otherwise: Advice where none of them is near.
        cutoff: Least similarity, 0..1 (see `difflib.get_close_matches`).

    """
    import difflib

    near = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"did you mean {near[0]!r}?" if near else otherwise


def require_known(asked: str, name: str, known: Iterable[str]) -> None:
    """Refuses a name that is not among the known ones.

    Raises:
        UsageError: It is not; `asked` and the name say what for.

    """
    names = list(known)
    if name not in names:
        raise UsageError(
            asked=f"{asked} {name!r}",
            found=f"that there are {', '.join(names)}",
            fix=did_you_mean(name, names, "use one of them"),
        )
