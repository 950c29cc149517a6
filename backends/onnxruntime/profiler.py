"""What each node of a model takes, by ONNX Runtime's own profiler, and what the runtime computes as one."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeport.backends.onnxruntime.node_mapping import Origins
from edgeport.backends.onnxruntime.session_support.feeds import check_feeds
from edgeport.backends.onnxruntime.session_support.runtime_session import inference_session, session_options
from edgeport.backends.session_errors import runtime_errors
from edgeport.backends.stages import Costs
from edgeport.contracts import Arrays, OnnxModel
from edgeport.errors import UnsupportedByBackend

__all__ = ["example_feeds", "measure_costs", "whole_ns"]

_CALLS = 20
_BEFORE = 2
_KERNEL = "_kernel_time"


def measure_costs(path: Path, feeds: Arrays, settings: Mapping[str, object], *, calls: int = _CALLS) -> Costs:
    """Times the nodes of a file in this process, as its session runs them; call it in a child process.

    A node of the runtime's optimised graph is the work of one or several nodes of the file: these stay together, and
    the first of them has the time. What the runtime made up (changes of layout) counts with a neighbour. A node's time
    is the median of its calls' faster half, in whole microseconds, as the profiler gives them.

    Args:
        path: The `.onnx` file.
        feeds: Arrays by input name; of one call.
        settings: Of the session (see `session.session_options`).
        calls: Timed, after two that are not.

    Raises:
        BackendError: The runtime refused the file or the feeds.

    """
    with tempfile.TemporaryDirectory(prefix="edgeport-profile-") as name:
        folder = Path(name)
        options = session_options(settings)
        options.optimized_model_filepath = str(folder / "optimised.onnx")
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        with runtime_errors(f"time the nodes of {path.name}"):
            session = inference_session(path, options, settings)
            arrays = check_feeds(session.get_inputs(), feeds)
            for _ in range(_BEFORE + calls):
                session.run(None, arrays)
            profile = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        shipped, optimised = ir.load(path).graph, ir.load(folder / "optimised.onnx").graph
    return _costs(profile, Origins(shipped, optimised), shipped, optimised)


def whole_ns(path: Path, feeds: Arrays, settings: Mapping[str, object], *, calls: int = _CALLS) -> int:
    """What a call of the whole file takes in this process, in ns: the median, after two calls that are not timed.

    What a provider of a GPU takes for a node is not told by the profiler, which sees it handed over; a call is waited
    for.

    Args:
        path: The `.onnx` file.
        feeds: Arrays by input name; of one call.
        settings: Of the session (see `session.session_options`), with its providers.
        calls: Timed.

    Raises:
        BackendError: The runtime refused the file, the provider or the feeds.

    """
    with runtime_errors(f"time {path.name} as a whole"):
        session = inference_session(path, session_options(settings), settings)
        arrays = check_feeds(session.get_inputs(), feeds)
        taken = []
        for _ in range(_BEFORE + calls):
            before = time.perf_counter_ns()
            session.run(None, arrays)
            taken.append(time.perf_counter_ns() - before)
    return int(statistics.median(taken[_BEFORE:]))


def example_feeds(model: OnnxModel, batch: int) -> dict[str, Any]:
    """Feeds of one call: normal floats, ones for the rest; what a dense network takes does not depend on them.

    Args:
        model: Its free axes but the first count as unknown.
        batch: Fills the first axis of an input where it is free.

    Raises:
        UnsupportedByBackend: An input with another free axis, or of a type without numbers.

    """
    random = np.random.default_rng(0)
    feeds = {}
    for spec in model.inputs:
        shape = [batch if axis == 0 and isinstance(size, str) else size for axis, size in enumerate(spec.shape)]
        fixed = [size for size in shape if isinstance(size, int)]
        if len(fixed) < len(shape) or spec.dtype in ("string", "bfloat16"):
            raise UnsupportedByBackend(
                asked=f"time the nodes of {model.path.name}",
                found=f"input {spec.name!r}, {spec.dtype} {list(spec.shape)}, for which no example can be made up",
                fix="export the model with fixed sizes but for the batch, or run it in a single stream",
            )
        floating = np.dtype(spec.dtype).kind == "f"
        feeds[spec.name] = (random.standard_normal(fixed) if floating else np.ones(fixed)).astype(spec.dtype)
    return feeds


def _costs(profile: list[dict[str, Any]], origins: Origins, shipped: ir.Graph, optimised: ir.Graph) -> Costs:
    times, sizes, types = _profiled(profile)
    known = {node.name for node in shipped}
    counted: dict[str, int] = {}
    together = []
    twins: dict[str | None, int] = {}
    for node in optimised:
        twins[node.name] = twins.get(node.name, 0) + 1
    for node in optimised:
        origin = [name for name in origins.of(node) if name in known]
        if len(origin) > 1:
            together.append(tuple(origin))
        owner = origin[0] if origin else _neighbour(node, origins)
        if owner is not None and node.name in times:
            counted[owner] = counted.get(owner, 0) + times[node.name] // twins[node.name]
    values = {value.name for node in shipped for value in node.outputs}
    alone = [node for node in optimised if len([value for value in node.outputs if value.name]) == 1]
    made = {
        str(value.name): node.name
        for node in alone
        for value in node.outputs
        if value.name in values and twins[node.name] == 1
    }
    return Costs(
        times_ns=counted,
        together=tuple(together),
        size_bytes={value: sizes[name] for value, name in made.items() if name in sizes},
        types={value: types[name] for value, name in made.items() if name in types},
    )


def _neighbour(node: ir.Node, origins: Origins) -> str | None:
    """Of a node that the runtime made up: the nearest node of the file that reads its result, or gives its input."""
    seen, pending = {node}, [node]
    while pending:
        one = pending.pop(0)
        found = origins.of(one)
        if found:
            return found[0]
        after = [use.node for value in one.outputs for use in value.uses()]
        before = [producer for value in one.inputs if value is not None and (producer := value.producer()) is not None]
        new = [other for other in (*after, *before) if other not in seen]
        seen.update(new)
        pending += new
    return None


def _profiled(
    profile: list[dict[str, Any]],
) -> tuple[dict[str | None, int], dict[str | None, int], dict[str | None, tuple[str, int]]]:
    """By the name of a node of the optimised graph: nanoseconds of a call (of all nodes of one name), output bytes, and
    type and number of axes of an only output.
    """
    types: dict[str | None, tuple[str, int]] = {}
    readings: dict[str, dict[str, list[int]]] = {}
    sizes: dict[str | None, int] = {}
    for event in profile:
        name = str(event.get("name", ""))
        if event.get("cat") != "Node" or not name.endswith(_KERNEL):
            continue
        name = name.removesuffix(_KERNEL)
        arguments = event.get("args", {})
        readings.setdefault(name, {}).setdefault(str(arguments.get("node_index")), []).append(int(event["dur"]))
        sizes[name] = int(arguments.get("output_size") or 0)
        given = arguments.get("output_type_shape") or []
        if len(given) == 1 and len(given[0]) == 1:
            ((kind, shape),) = given[0].items()
            types[name] = (kind, len(shape))
    times: dict[str | None, int] = {
        name: sum(int(1000 * _of_faster_half(one[_BEFORE:] or one)) for one in by_node.values())
        for name, by_node in readings.items()
    }
    return times, sizes, types


def _of_faster_half(readings: list[int]) -> float:
    ordered = sorted(readings)
    return statistics.median(ordered[: -(-len(ordered) // 2)])
