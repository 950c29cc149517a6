"""A mix of precisions, from names as people write them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from edgeport.contracts import Mix, NodeChoice, Precision
from edgeport.errors import ContractError, UsageError

__all__ = ["mix_named", "precision_named"]


def mix_named(nodes: Mapping[str, str], rest: str) -> Mix:
    """The mix of these choices.

    Args:
        nodes: Node, pattern, module or operator type to the name of a precision, in the order in which they count.
        rest: Name of a float precision.

    Raises:
        UsageError: No such precision, or one of integers as the rest.

    """
    choices = tuple(
        NodeChoice(what=what, precision=precision_named(f"run {what!r} in {name!r}", name))
        for what, name in nodes.items()
    )
    named = precision_named(f"run in {rest!r} what is not integer", rest)
    try:
        return Mix(rest=named, nodes=choices)
    except ContractError as error:
        raise UsageError(asked=error.asked, found=error.found, fix=error.fix) from error


def precision_named(asked: str, name: str) -> Precision:
    """The precision of that name.

    Raises:
        UsageError: There is none; `asked` says what for.

    """
    known = [str(one) for one in Precision]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            asked=asked,
            found=f"precisions {', '.join(known)}",
            fix=f"did you mean {near[0]!r}?" if near else "choose one of them",
        )
    return Precision(name)
