"""The runtime's own optimizer of transformers, kept where what it makes is the same and measured faster.

`onnxruntime.transformers.optimizer` (in the runtime's wheel) finds more than the runtime does while it opens a model:
attention as one node, bias and Gelu as one. Whether that is faster depends on the processor and on how the model was
exported, so it is tried.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.backends.artifacts import artifact_folder, check_artifact, make_artifact
from edgeport.backends.onnxruntime.placement import read_placement
from edgeport.backends.onnxruntime.profiler import example_feeds
from edgeport.backends.onnxruntime.session_support.runtime_session import inference_session, session_options
from edgeport.contracts import Array, Artifact, Placement
from edgeport.errors import BackendError, DependencyError
from edgeport.onnx_files import open_onnx

__all__ = ["FUSED", "Trial", "fuse", "fused_where_faster", "same", "tried"]

FUSED = "onnx-fused"
ENTRY = "model.onnx"
TOLERANCE = 1e-4
"""Of the largest value of an output: fused kernels sum in another order."""
_OF_RUNNING = ("streams", "cores", "priority")
_DRAWS = 3
_PAIRS = 31
_WARM_UP = 3
_LEAST_GAIN = 0.99
_LONGEST_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What the fused graph takes, as a part of what the other takes: the median of pairs, and its 95 % interval."""

    low: float
    ratio: float
    high: float

    @property
    def is_faster(self) -> bool:
        """By 1 % at least, the whole interval."""
        return self.high < _LEAST_GAIN

    def __str__(self) -> str:
        """Such as 0.96x the time (0.95 to 0.98)."""
        return f"{self.ratio:.2f}x the time ({self.low:.2f} to {self.high:.2f})"


def fused_where_faster(artifact: Artifact, folder: Path) -> tuple[Artifact, Placement]:
    """The artifact with what the optimizer fuses in its graph, or as it is; its placement says which, and why.

    Random inputs are compared, then calls are timed in turn, here and now: so do it on a quiet machine like the device.

    Args:
        artifact: An ONNX file for the CPU.
        folder: New or empty.

    Raises:
        DependencyError: The optimizer does not import.
        BackendError: The artifact's folder changed, or the runtime refused it.
        OutputError: `folder` is not empty.

    """
    path = check_artifact(artifact)
    with artifact_folder(folder) as draft:
        counts = fuse(path, draft / ENTRY)
        kept, told = _judged(path, draft / ENTRY, artifact) if counts else (False, "found nothing to fuse")
        if counts:
            told = f"fused {', '.join(f'{count} {name}' for name, count in counts.items())}, which {told}"
        if not kept:
            (draft / ENTRY).write_bytes(path.read_bytes())
            for data in path.parent.glob(f"{path.name}.*.data"):
                (draft / data.name).write_bytes(data.read_bytes())
    made = make_artifact(
        backend=artifact.backend,
        folder=folder,
        entry=ENTRY,
        session=artifact.session,
        settings=artifact.settings,
        precision=artifact.precision,
        execution=artifact.execution,
    )
    placement = read_placement(made)
    return made, replace(placement, source=f"{placement.source}; its optimizer of transformers {told}")


def _judged(path: Path, fused: Path, artifact: Artifact) -> tuple[bool, str]:
    """Whether the fused graph is kept, and what came of it."""
    example = example_feeds(open_onnx(path), artifact.execution.batch)
    settings = {name: value for name, value in artifact.settings.items() if name not in _OF_RUNNING}
    try:
        plain, other = (inference_session(one, session_options(settings), settings) for one in (path, fused))
        for seed in range(_DRAWS):
            feeds = _drawn(example, seed)
            if not same(_outputs(plain, feeds), _outputs(other, feeds)):
                return False, "gives other numbers, so it was left out"
    except Exception as error:  # noqa: BLE001 (whatever the runtime says of it, the graph stays as it was)
        return False, f"does not run ({type(error).__name__}), so it was left out"
    trial = tried(plain, other, example)
    return (
        trial.is_faster,
        f"takes {trial}" if trial.is_faster else f"is not surely faster ({trial}), so it was left out",
    )


def _drawn(example: Mapping[str, Array], seed: int) -> dict[str, Array]:
    """Normal floats, and zeros and ones for the rest: every table has such rows, and every mask such values."""
    random = np.random.default_rng(seed)
    return {
        name: (
            random.standard_normal(array.shape) if array.dtype.kind == "f" else random.integers(2, size=array.shape)
        ).astype(array.dtype)
        for name, array in example.items()
    }


def _outputs(session: Any, feeds: Mapping[str, Array]) -> dict[str, Array]:
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feeds)), strict=True))


def fuse(path: Path, output: Path) -> Mapping[str, int]:
    """Writes the fused graph; how many of each fused operator are in it, none where it is as it was.

    Sums with the LayerNormalization behind them stay as they are: see `constants.SLOW_FUSION`.

    Raises:
        DependencyError: The optimizer does not import.
        BackendError: It fails.

    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from onnxruntime.transformers import optimizer
            from onnxruntime.transformers.fusion_options import FusionOptions

            options = FusionOptions("bert")
            options.enable_skip_layer_norm = False
            options.enable_bias_skip_layer_norm = False
            made = optimizer.optimize_model(str(path), model_type="bert", optimization_options=options, opt_level=0)
            large = path.stat().st_size + sum(one.stat().st_size for one in path.parent.glob("*.data")) > 1 << 30
            made.save_model_to_file(str(output), use_external_data_format=large)
    except ImportError as error:
        raise DependencyError(
            asked="fuse a transformer",
            found=f"that onnxruntime.transformers does not import ({error})",
            fix="pip install --upgrade onnxruntime",
        ) from error
    except Exception as error:  # a program of its own, which raises what it likes
        raise BackendError(
            asked=f"fuse {path.name} with onnxruntime.transformers",
            found=f"{type(error).__name__}: {error}",
            fix="leave it in the form onnx",
        ) from error
    finally:
        logging.disable(before)
    known = {name: count for name, count in made.get_fused_operator_statistics().items() if count}
    return {name: count for name, count in known.items() if name != "LayerNormalization"}


def same(expected: Mapping[str, Array], found: Mapping[str, Array]) -> bool:
    """Equal outputs, floats within `TOLERANCE` of the largest value of each."""
    if expected.keys() != found.keys():
        return False
    for name, wanted in expected.items():
        got = found[name]
        if got.shape != wanted.shape or got.dtype != wanted.dtype:
            return False
        if wanted.dtype.kind != "f":
            if not np.array_equal(got, wanted):
                return False
        elif not np.allclose(
            got, wanted, rtol=0, atol=TOLERANCE * float(np.abs(wanted).max(initial=0.0)), equal_nan=True
        ):
            return False
    return True


def tried(plain: Any, fused: Any, feeds: Mapping[str, Array]) -> Trial:
    """Calls of both sessions in turn, until there are enough pairs or 20 seconds are over.

    The interval is that of the sign test: order statistics around the median (Conover, section 3.2).
    """
    for _ in range(_WARM_UP):
        plain.run(None, feeds)
        fused.run(None, feeds)
    ratios: list[float] = []
    end = time.perf_counter() + _LONGEST_S
    while len(ratios) < _PAIRS and (len(ratios) < 6 or time.perf_counter() < end):
        times = []
        for session in (plain, fused) if len(ratios) % 2 else (fused, plain):
            start = time.perf_counter_ns()
            session.run(None, feeds)
            times.append(time.perf_counter_ns() - start)
        ours, other = times if len(ratios) % 2 == 0 else times[::-1]
        ratios.append(ours / other)
    ratios.sort()
    rank = max(0, math.floor((len(ratios) - 1.96 * math.sqrt(len(ratios))) / 2) - 1)
    return Trial(low=ratios[rank], ratio=ratios[len(ratios) // 2], high=ratios[-1 - rank])
