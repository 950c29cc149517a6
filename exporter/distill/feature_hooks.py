"""What modules inside of a network give, by their paths, through hooks that are there for one forward pass."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from edgeport.errors import DistillationError

__all__ = ["require_paths", "tapped"]


def require_paths(network: torch.nn.Module, paths: Sequence[str], whose: str) -> None:
    """Makes sure that modules of these paths are there.

    Args:
        network: Student or teacher.
        paths: As in `named_modules`.
        whose: "student" or "teacher", for the message.

    Raises:
        DistillationError: One is not.

    """
    known = {name: one for name, one in network.named_modules() if name}
    for path in paths:
        if path in known:
            continue
        near = difflib.get_close_matches(path, known, n=1)
        depth = path.count(".") + 1
        shown = [name for name in known if name.count(".") < depth][:12]
        raise DistillationError(
            asked=f"look at module {path!r} of the {whose}",
            found=f"{type(network).__name__}, which has no such module",
            fix=f"did you mean {near[0]!r}?" if near else f"name one of {', '.join(shown)}",
        )


@contextmanager
def tapped(network: torch.nn.Module, paths: Sequence[str], whose: str) -> Iterator[dict[str, Tensor]]:
    """While it is entered, each forward pass leaves in the dict what these modules gave.

    Of a tuple or list, as transformers' layers give, the first tensor counts. It is a copy, for what comes next may
    change it in place, as `ReLU(inplace=True)` does.

    Args:
        network: Is not changed.
        paths: As in `named_modules`.
        whose: For messages.

    Raises:
        DistillationError: In a forward pass, a module runs more than once, or gives no tensor; afterwards, one did not
            run.

    """
    found: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for path in dict.fromkeys(paths):
            handle = network.get_submodule(path).register_forward_hook(_keeping(found, path, whose))
            stack.callback(handle.remove)
        yield found
    silent = [path for path in paths if path not in found]
    if silent:
        raise DistillationError(
            asked=f"look at module {silent[0]!r} of the {whose}",
            found="that forward never calls it",
            fix="name a module that is called: one around it, or inside of it",
        )


def _keeping(found: dict[str, Tensor], path: str, whose: str) -> Any:
    def keep(module: torch.nn.Module, arguments: object, output: object) -> None:
        del module, arguments
        if path in found:
            raise DistillationError(
                asked=f"look at module {path!r} of the {whose}",
                found="that forward calls it more than once",
                fix="name a module that is called once, such as the block that holds it",
            )
        first = output[0] if isinstance(output, tuple | list) and output else output
        if not isinstance(first, torch.Tensor):
            raise DistillationError(
                asked=f"look at module {path!r} of the {whose}",
                found=f"that it gives a {type(output).__name__}",
                fix="name a module that gives a tensor, or a tuple that begins with one",
            )
        found[path] = first.clone()

    return keep
