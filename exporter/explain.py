"""Why an export failed, in the user's words: which line of the model, why ONNX can't say it, what to do."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeport.errors import (
    DataDependentShapeError,
    DynamicShapeError,
    ExportError,
    GraphBreakError,
    UnsupportedOperatorError,
)

__all__ = ["FREE_THE_BATCH", "SourceLine", "explain_export_failure", "line_of_stack", "user_line"]

_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\S+)\n\s+([^\n]+)')
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""Colours, which torch.onnx writes into its messages."""

_MACHINERY = frozenset({"functorch", "onnx", "onnx_ir", "onnxscript", "sympy", "torch"})
_LOOPS = ("if ", "elif ", "while ", "for ", "assert ")


@dataclass(frozen=True, kw_only=True)
class SourceLine:
    """A line of the model's own code."""

    file: str
    line: int
    code: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.code}" if self.code else f"{self.file}:{self.line}"


def _is_users(file: str) -> bool:
    """Neither PyTorch, nor the standard library, nor this package, nor generated code."""
    if file.startswith("<"):
        return False
    path = Path(file).resolve()
    for installed in ("site-packages", "dist-packages"):
        if installed in path.parts[:-1]:
            return path.parts[path.parts.index(installed) + 1] not in _MACHINERY
    return path.parent != Path(__file__).resolve().parent and Path(os.__file__).resolve().parent not in path.parents


def line_of_stack(text: str) -> SourceLine | None:
    """The innermost line of the model's code in a printed stack; None where there is none."""
    frames = [frame for frame in _FRAME.findall(text) if _is_users(frame[0])]
    if not frames:
        return None
    file, line, _, code = frames[-1]
    return SourceLine(file=file, line=int(line), code=code.strip())


def _line_of_traceback(error: BaseException) -> SourceLine | None:
    frames = traceback.extract_tb(error.__traceback__)
    # Callers of this package stand before its own frames; the model's code stands after.
    ours = [i for i, f in enumerate(frames) if Path(f.filename).resolve().parent == Path(__file__).resolve().parent]
    inner = [frame for frame in frames[ours[-1] + 1 if ours else 0 :] if _is_users(frame.filename)]
    if not inner:
        return None
    return SourceLine(file=inner[-1].filename, line=inner[-1].lineno or 0, code=(inner[-1].line or "").strip())


def _line_of_node(error: BaseException) -> SourceLine | None:
    """Of the operator under translation: torch keeps it in a local variable of the frame that failed."""
    frame = error.__traceback__
    found = None
    while frame is not None:
        node = frame.tb_frame.f_locals.get("node")
        stack = getattr(node, "meta", {}).get("stack_trace") if hasattr(node, "meta") else None
        found = line_of_stack(stack) if isinstance(stack, str) else found
        frame = frame.tb_next
    return found


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__


def user_line(error: BaseException) -> SourceLine | None:
    """The line of the model's code that an exception came from; None where it does not tell."""
    for find in (_line_of_node, _line_of_traceback, lambda e: line_of_stack(str(e))):
        for each in _chain(error):
            line = find(each)
            if line is not None:
                return line
    return None


def explain_export_failure(name: str, failures: Sequence[BaseException]) -> ExportError:
    """One error out of what each way of exporting said.

    Args:
        name: Of the model, for the message.
        failures: One exception per way that was tried, in that order; at least one.

    """
    text = "\n".join(str(each) for failure in failures for each in _chain(failure))
    lines = [line for line in map(user_line, failures) if line is not None]
    # Strict capture names the branch itself where non-strict names the value that it asks for.
    branches = [line for line in lines if line.code.startswith(_LOOPS)]
    line = next(iter([*branches, *lines]), None)
    where = f" at {line}" if line else ""
    details: dict[str, object] = {"messages": [f"{type(f).__name__}: {_gist(str(f))}" for f in failures]}
    if line:
        details |= {"file": line.file, "line": line.line, "code": line.code}
    for matches, explain in _EXPLANATIONS:
        if matches(text, lines):
            cls, found, fix = explain(text, where)
            return cls(asked=f"export {name} to ONNX", found=found, fix=fix, details=details)
    return ExportError(
        asked=f"export {name} to ONNX",
        found=f"{type(failures[0]).__name__}{where}: {_gist(str(failures[0]))}",
        fix="rewrite that part of forward with tensor operations only, or allow the legacy exporter",
        details=details,
    )


def _gist(message: str) -> str:
    """The first line that says something; of torch.onnx's long texts, the first of their summary."""
    summary = message.partition("## Exception summary")[2] or message
    lines = [line.strip() for line in _ESCAPES.sub("", summary).splitlines() if line.strip()]
    return lines[0][:300] if lines else "no message"


_Explained = tuple[type[ExportError], str, str]


def _is_operator(text: str, lines: Sequence[SourceLine]) -> bool:
    del lines
    return "No ONNX function found" in text or "Exporting the operator" in text


def _explain_operator(text: str, where: str) -> _Explained:
    named = re.search(r"OpOverload\(op='([^']+)', overload='([^']+)'\)>?\. Failure", text) or re.search(
        r"Exporting the operator '([^']+)'()", text
    )
    operator = named.group(1) if named else "an operator"
    own = operator.partition(".")[0] not in ("aten", "prims", "aten::") and not operator.startswith("aten::")
    return (
        UnsupportedOperatorError,
        f"that ONNX has no translation for {operator}{where}",
        "write the custom operator's forward with PyTorch's own operators for the export"
        if own
        else "compute it outside of the model, or replace it by operators that ONNX has (docs/reference/export.md)",
    )


FREE_THE_BATCH = (
    "use x.shape[0] or -1 instead of a number for the batch (view, reshape, zeros, buffers, loops over it), "
    "or fix the batch: --fixed-batch keeps the example's, a recipe gives it as axis 0 of an input's shape"
)
"""What to do where the model itself fixes the batch."""


def _is_fixed_axis(text: str, lines: Sequence[SourceLine]) -> bool:
    del lines
    return "Constraints violated" in text


def _explain_fixed_axis(text: str, where: str) -> _Explained:
    fixed = re.search(r"marked (\w+) as dynamic but your code specialized it to be a constant \((\d+)\)", text)
    suggested = re.findall(r"^  (\w+ = [^\n]+)$", text, re.MULTILINE)
    if fixed:
        axis, size = fixed.groups()
        return (
            DynamicShapeError,
            f"that the model fixes axis {axis!r} to the example's {size}{where}",
            FREE_THE_BATCH
            if axis == "batch"
            else f"do not leave {axis!r} free, or use its size from x.shape instead of a number",
        )
    return (
        DynamicShapeError,
        f"that the model does not take every size of its free axes{where}",
        f"declare {'; '.join(dict.fromkeys(suggested))}" if suggested else "leave fewer axes free",
    )


def _is_data_shape(text: str, lines: Sequence[SourceLine]) -> bool:
    if "data-dependent expression" not in text:
        return False
    branches = any(line.code.startswith(_LOOPS) for line in lines)
    by_size = re.search(r"Size-like symbols: (?!none)", text) is not None
    return by_size or ("extract specialized integer" in text and not branches)


def _is_graph_break(text: str, lines: Sequence[SourceLine]) -> bool:
    del lines
    return "data-dependent" in text.lower()


def _is_foreign(text: str, lines: Sequence[SourceLine]) -> bool:
    del lines
    return ".numpy() is not supported" in text or ("FakeTensor" in text and "numpy" in text)


def _always(error: type[ExportError], found: str, fix: str) -> Callable[[str, str], _Explained]:
    """The same, whatever the text says beside the place."""
    return lambda _, where: (error, f"{found}{where}", fix)


_EXPLANATIONS: tuple[tuple[Callable[[str, Sequence[SourceLine]], bool], Callable[[str, str], _Explained]], ...] = (
    (_is_operator, _explain_operator),
    (_is_fixed_axis, _explain_fixed_axis),
    (
        _is_data_shape,
        _always(
            DataDependentShapeError,
            "a size that depends on the values of a tensor",
            "keep shapes fixed: pad to the largest size and mask (torch.where, torch.topk with a fixed k), "
            "or do this step after the model",
        ),
    ),
    (
        _is_graph_break,
        _always(
            GraphBreakError,
            "Python control flow that depends on the values of a tensor",
            "compute both sides and choose with torch.where, or use torch.cond; loops need a fixed count",
        ),
    ),
    (
        _is_foreign,
        _always(
            ExportError,
            "that the model leaves PyTorch (numpy) in the middle",
            "use the torch function of the same name instead",
        ),
    ),
)
