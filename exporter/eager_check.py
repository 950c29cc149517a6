"""The model once in plain PyTorch, before any export: what fails here is no fault of the export."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgeport.contracts import Arrays
from edgeport.contracts.model import link_state
from edgeport.errors import DynamicShapeError, EdgeportError, ExportError
from edgeport.exporter.explain import FREE_THE_BATCH, SourceLine, user_line
from edgeport.exporter.input_binding import Binding, arrays_of, call, described, run_eagerly
from edgeport.exporter.options import ExportOptions
from edgeport.exporter.output_naming import constant_outputs

if TYPE_CHECKING:
    import torch

__all__ = ["FirstRun", "run_once"]


@dataclass(frozen=True, kw_only=True)
class FirstRun:
    """What one forward pass told.

    Attributes:
        outputs: Names, in their order; as the options name them, if they do.
        changed: Paths of the buffers and tensor attributes that every call of `forward` changes; they are as they were
            again.
        example: What was run: one sample of the example where the model takes no more, and a fixed batch is allowed.
        notes: One sentence each.
        one_only: The model takes a batch of one only.
        has_constants: It returns numbers or texts of Python beside tensors.

    """

    outputs: tuple[str, ...]
    changed: tuple[str, ...]
    example: Arrays
    notes: tuple[str, ...] = ()
    one_only: bool = False
    has_constants: bool = False


def run_once(module: torch.nn.Module, binding: Binding, example: Arrays, options: ExportOptions) -> FirstRun:
    """Runs the example, and one sample of it where the whole fails.

    Raises:
        DynamicShapeError: The model takes one sample, but not the example's batch, which should be free.
        ExportError: PyTorch itself fails, or returns what is no tensor.

    """
    before = list(_state(module))
    notes: tuple[str, ...] = ()
    constants: Mapping[str, object] = {}
    try:
        result = call(module, binding, example)
        found = arrays_of(result, example)
        outputs, constants = tuple(found), constant_outputs(result)
        link_state(options.state, described(example), described(found))
    except EdgeportError:
        raise
    except Exception as error:
        one = {name: array[:1] for name, array in example.items()}
        outputs = _outputs_of_one(module, binding, one) if _batch(example) > 1 and not options.state else ()
        if not outputs:
            raise _failed(module, example, error) from error
        if options.dynamic_batch and not options.static_batch_fallback:
            raise _one_only(module, example, error) from error
        where = _where(user_line(error))
        notes = (f"The batch is fixed to 1, because the model takes no batch of {_batch(example)}{where}.",)
        example = one
    _check_names(options, example, outputs)
    changed = _take_back(before, lambda: run_eagerly(module, binding, example))
    return FirstRun(
        outputs=options.output_names or outputs,
        changed=changed,
        example=example,
        notes=(
            *notes,
            *(f"Output {name} is left out: it is {value!r} whatever is fed." for name, value in constants.items()),
        ),
        one_only=bool(notes),
        has_constants=bool(constants),
    )


def _batch(example: Arrays) -> int:
    return len(next(iter(example.values())))


def _outputs_of_one(module: torch.nn.Module, binding: Binding, one: Arrays) -> tuple[str, ...]:
    """Names of the outputs for one sample; none where that fails too."""
    try:
        return tuple(run_eagerly(module, binding, one))
    except Exception:  # noqa: BLE001 (the user's forward raises anything; what it said of the whole batch is reported)
        return ()


def _check_names(options: ExportOptions, example: Arrays, found: tuple[str, ...]) -> None:
    taken = sorted(set(options.output_names) & set(example))
    if taken:
        raise ExportError(
            asked=f"name an output {', '.join(taken)}", found="an input of that name", fix="give it another name"
        )
    if options.output_names and len(options.output_names) != len(found):
        raise ExportError(
            asked=f"name the outputs {', '.join(options.output_names)}",
            found=f"{len(found)} outputs ({', '.join(found)})",
            fix="give one name per output",
        )


def _failed(module: torch.nn.Module, example: Arrays, error: Exception) -> ExportError:
    line = user_line(error)
    given = ", ".join(f"{name}: {array.dtype} {list(array.shape)}" for name, array in example.items())
    message = str(error).strip()[:300]
    wants_integers = "scalar types: Long" in message and any(array.dtype.kind == "f" for array in example.values())
    return ExportError(
        asked=f"run {type(module).__name__} on the example ({given})",
        found=f"{type(error).__name__}{_where(line)}" + (f": {message}" if message else ""),
        fix="the model takes integers there: give an example that has them (--example samples.npz), for --input draws "
        "float32"
        if wants_integers
        else "check the model against these inputs; this is PyTorch alone, before any export",
        details=_details(line),
    )


def _one_only(module: torch.nn.Module, example: Arrays, error: Exception) -> DynamicShapeError:
    line = user_line(error)
    return DynamicShapeError(
        asked=f"run {type(module).__name__} on a batch of {_batch(example)}",
        found=f"that it takes one sample only{_where(line)}: {str(error).strip()[:300]}",
        fix=FREE_THE_BATCH,
        details=_details(line),
    )


def _where(line: SourceLine | None) -> str:
    return f" at {line}" if line else ""


def _details(line: SourceLine | None) -> dict[str, object] | None:
    return {"file": line.file, "line": line.line, "code": line.code} if line else None


@dataclass(frozen=True, kw_only=True)
class _Held:
    """One tensor that a module holds and that is no parameter."""

    path: str
    holder: torch.nn.Module
    name: str
    tensor: torch.Tensor
    copy: torch.Tensor

    @property
    def now(self) -> torch.Tensor | None:
        """What stands in its place, where that may be another value of the same state."""
        import torch

        found = getattr(self.holder, self.name, None)
        same = isinstance(found, torch.Tensor) and (found.shape, found.dtype) == (self.copy.shape, self.copy.dtype)
        return found if same else None


def _state(module: torch.nn.Module) -> Iterator[_Held]:
    import torch

    for prefix, each in module.named_modules():
        if isinstance(each, torch.jit.ScriptModule):
            continue  # Its tensors live outside of Python.
        for name, tensor in {**dict(each.named_buffers(recurse=False)), **vars(each)}.items():
            if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided and not tensor.is_meta:
                path = f"{prefix}.{name}" if prefix else name
                yield _Held(path=path, holder=each, name=name, tensor=tensor, copy=tensor.detach().clone())


def _take_back(before: list[_Held], run_again: Callable[[], object]) -> tuple[str, ...]:
    """Puts back what every call changes, and names it; else the file would start from the state after this run.

    What only the first call changes is no state but something computed once and kept, and stays.
    """
    import torch

    first = [held for held in before if held.now is not None and not _equal(held.now, held.copy)]
    if not first:
        return ()
    values = [held.now.detach().clone() for held in first if held.now is not None]
    run_again()
    state = [
        held for held, value in zip(first, values, strict=True) if held.now is not None and not _equal(held.now, value)
    ]
    for held in state:
        with torch.no_grad():
            held.tensor.copy_(held.copy)
        setattr(held.holder, held.name, held.tensor)
    return tuple(held.path for held in state)


def _equal(left: torch.Tensor, right: torch.Tensor) -> bool:
    import torch

    return torch.equal(left, right) or (left.is_floating_point() and torch.equal(left.nan_to_num(), right.nan_to_num()))
