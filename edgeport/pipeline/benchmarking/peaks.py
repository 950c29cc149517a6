"""What a device can do at its best: a large matrix product by each runtime, and reading an array of a given size.

Both are timed as models are: as artifacts, by the agent, in fresh processes, the product's outputs checked. The best
reading counts, since a peak is a bound; it stays in the store.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeport.contracts import (
    Artifact,
    Device,
    DeviceFacts,
    ExecutionConfig,
    Limits,
    Placement,
    Precision,
    Processor,
    TimeJob,
    load_json,
    to_jsonable,
)
from edgeport.contracts.serialise import canonical
from edgeport.errors import DeviceLost, EdgeportError
from edgeport.isolation import run_isolated
from edgeport.npz import save_npz
from edgeport.pipeline.engine.concurrency import side_by_side
from edgeport.store import Store

__all__ = ["Place", "Product", "Reading", "Yardstick", "Yardsticks", "build_products"]

_LOG = logging.getLogger(__name__)

_SIZES = ((8, 384), (64, 768))
_LARGEST_SIZE = 1536
"""Rows, columns and depth by number of threads: long enough for all of them to come near their peak, and short enough
(0.5 ms of two cores) that some readings are whole even where other programs take turns with them."""

_DURATION_S = 0.2
_WARMUP_S = 0.02
_LEAST_READINGS = 5
_TOLERANCE = 0.1
"""Of the largest output: what int8 may lose here; a runtime that does nothing loses all of it."""

_READ_BYTES = 64 << 20
"""In one reading of the clock: a millisecond or so, against some 50 us to wake the threads."""

_FEEDS, _EXPECTED = "feeds.npz", "expected.npz"

_MOST_KEPT = 8
"""Tries of one yardstick in the store."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where rooflines are measured and kept.

    Attributes:
        store: Keeps what was measured.
        device, facts: Where it is measured.
        scratch: A folder for files that nobody needs afterwards.
        limits: Of each child process.
        processor: See `RunContext`.

    """

    store: Store
    device: Device
    facts: DeviceFacts
    scratch: Path
    limits: Limits
    processor: Processor | None = None


@dataclass(frozen=True, kw_only=True)
class Product:
    """A matrix product by one runtime; its rate is multiplications and additions per second."""

    backend: str
    precision: Precision
    execution: ExecutionConfig

    def __str__(self) -> str:
        """As tables say it."""
        return f"{self.backend} {self.precision} matrix product"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """An array that is read again and again; its rate is bytes per second.

    Attributes:
        size_bytes: Of the array.
        threads: That share it.
        affinity: Logical processors that may be used; empty for all.

    """

    size_bytes: int
    threads: int
    affinity: tuple[int, ...] = ()

    def __str__(self) -> str:
        """As tables say it."""
        size = f"{self.size_bytes >> 20} MiB" if self.size_bytes >= 1 << 20 else f"{self.size_bytes >> 10} KiB"
        return f"{size} read by {self.threads} threads"


Yardstick = Product | Reading


@dataclass(frozen=True, kw_only=True)
class _Ready:
    """A yardstick that can be timed.

    Attributes:
        amount: Operations or bytes of one call.
        job: See `TimeJob`.

    """

    amount: float
    job: TimeJob


class Yardsticks:
    """Rates of this device, as far as they are known.

    Attributes:
        reasons: Why a yardstick has no rate, in words.
        fresh: Those that were measured by this object, not answered by the store.

    """

    def __init__(self, place: Place) -> None:
        self.reasons: dict[Yardstick, str] = {}
        self.fresh: set[Yardstick] = set()
        self._place = place
        self._tries: dict[Yardstick, list[float]] = {}
        self._ready: dict[Yardstick, _Ready] = {}

    def rate(self, yardstick: Yardstick) -> float | None:
        """The best of all tries, per second; None where there is none."""
        return max(self._tries.get(yardstick, ()), default=None)

    def tries(self, yardstick: Yardstick) -> int:
        """How often it was measured, by this run or an earlier one."""
        return len(self._tries.get(yardstick, ()))

    def recall(self, yardsticks: Sequence[Yardstick]) -> None:
        """Takes what is in the store."""
        for yardstick in yardsticks:
            if yardstick in self._tries:
                continue
            found = self._tries[yardstick] = []
            while len(found) < _MOST_KEPT:
                folder = self._place.store.find("roof", self._key(yardstick, len(found)))
                if folder is None:
                    break
                found.append(json.loads((folder / "roof.json").read_bytes())["per_s"])
                self._place.store.hits += 1  # found, not asked for: `get_or_build` has not counted it

    def measure(self, yardsticks: Sequence[Yardstick], *, processes: int = 1) -> None:
        """Measures each once more, in fresh processes, and keeps the best; where that fails there is a reason."""
        self._prepare([one for one in yardsticks if one not in self._ready and one not in self.reasons])
        for yardstick in yardsticks:
            ready = self._ready.get(yardstick)
            if ready is None:
                continue
            try:
                best_ns = min(_best_ns(self._place.device, ready.job) for _ in range(processes))
            except DeviceLost:
                raise
            except EdgeportError as error:
                self.reasons[yardstick] = error.found
                continue
            self.fresh.add(yardstick)
            self._keep(yardstick, 1e9 * ready.amount / best_ns)

    def _keep(self, yardstick: Yardstick, per_s: float) -> None:
        tries = self._tries.setdefault(yardstick, [])

        def build(folder: Path) -> None:
            (folder / "roof.json").write_bytes(canonical({"per_s": per_s}))

        if len(tries) < _MOST_KEPT:
            self._place.store.get_or_build("roof", self._key(yardstick, len(tries)), build)
        tries.append(per_s)
        _LOG.info("%s: %.4g per s", yardstick, per_s)

    def _key(self, yardstick: Yardstick, attempt: int) -> dict[str, object]:
        kind = "product" if isinstance(yardstick, Product) else "reading"
        size = _size(yardstick, self._place.facts)
        return {
            "kind": kind,
            "yardstick": to_jsonable(yardstick),
            "size": size,
            "try": attempt,
            "device": self._place.facts.digest,
        }

    def _prepare(self, yardsticks: Sequence[Yardstick]) -> None:
        groups: dict[tuple[str, ExecutionConfig], list[Product]] = {}
        for one in yardsticks:
            if isinstance(one, Reading):
                self._ready[one] = self._reading(one)
            else:
                groups.setdefault((one.backend, one.execution), []).append(one)
        for built in side_by_side(self._products, list(groups.values()), lambda _: None) if groups else ():
            for product, found in built.items():
                if isinstance(found, str):
                    self.reasons[product] = found
                else:
                    self._ready[product] = found

    def _products(self, products: list[Product]) -> dict[Product, _Ready | str]:
        """One child for all of a runtime's precisions: the time goes into loading it."""
        first = products[0]
        size = _size(first, self._place.facts)
        folder = self._folder(f"{first.backend}-{_digest(first.execution)}")
        payload = {
            "backend": first.backend,
            "precisions": [str(one.precision) for one in products],
            "execution": to_jsonable(first.execution),
            "size": size,
            "folder": str(folder),
            "processor": to_jsonable(self._place.processor),
        }
        try:
            found = run_isolated(
                "edgeport.pipeline.benchmarking.peaks:build_products",
                payload,
                limits=self._place.limits,
                asked="build what measures the machine's peak",
            )
        except EdgeportError as error:
            return dict.fromkeys(products, error.found)
        return {one: self._built(one, found["built"][str(one.precision)], size) for one in products}

    def _built(self, product: Product, built: Mapping[str, Any], size: int) -> _Ready | str:
        if built["reason"]:
            return str(built["reason"])
        placement = load_json(Placement, json.dumps(built["placement"])) if built["placement"] else None
        if placement is not None and not placement.share(str(product.precision)):
            return f"its product ran otherwise ({placement.summary()})"
        artifact = load_json(Artifact, json.dumps(built["artifact"]))
        job = self._job(artifact.folder, artifact.entry, artifact.session, artifact.settings)
        return _Ready(amount=2.0 * size**3, job=job)

    def _reading(self, reading: Reading) -> _Ready:
        folder = self._folder(f"reading-{_digest(reading)}")
        (folder / "artifact").mkdir(exist_ok=True)
        (folder / "artifact" / "none").write_bytes(b"")
        save_npz(folder / _FEEDS, {"none": np.zeros(1, np.int8)})
        save_npz(folder / _EXPECTED, {"largest": np.ones(1, np.int8)})
        passes = max(1, _READ_BYTES // reading.size_bytes)
        settings = {**asdict(reading), "affinity": list(reading.affinity), "passes": passes}
        job = self._job(folder / "artifact", "none", "edgeport.devices.bandwidth_session", settings)
        return _Ready(amount=float(passes * reading.size_bytes), job=job)

    def _job(self, artifact: Path, entry: str, session: str, settings: Mapping[str, object]) -> TimeJob:
        """Feeds and expected outputs lie in the nearest folder above the artifact that has them."""
        device = self._place.device
        folder = next(one for one in artifact.parents if (one / _FEEDS).exists())
        return TimeJob(
            artifact=device.push(artifact),
            entry=entry,
            session=session,
            settings=settings,
            feeds=device.push(folder / _FEEDS),
            reference=device.push(folder / _EXPECTED),
            warmup_s=_WARMUP_S,
            duration_s=_DURATION_S,
            minimum_calls=_LEAST_READINGS,
            output_tolerance=_TOLERANCE,
            limits=self._place.limits,
        )

    def _folder(self, name: str) -> Path:
        folder = self._place.scratch / "yardsticks" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def build_products(payload: dict[str, Any]) -> dict[str, Any]:
    """Child's side: writes the product as ONNX, calibrates it where it must be, and has the backend compile it.

    Args:
        payload: `backend`, `precisions`, `execution`, `size` (rows, columns and depth), `folder`, which gets
            `feeds.npz`, `expected.npz` and a folder per precision, and `processor`, where it is for another one.

    Returns:
        `built`: by precision `artifact` and `placement`, or the `reason` why there is none.

    """
    from edgeport.onnx_files import open_onnx
    from edgeport.pipeline.compilation.worker import build
    from edgeport.pipeline.quantization.calibration_worker import calibrate

    folder = Path(payload["folder"])
    _write_product(folder, payload["size"])
    model = to_jsonable(open_onnx(folder / "product.onnx"))
    calibration = folder / "calibration.safetensors"
    if str(Precision.INT8) in payload["precisions"]:
        samples = {"path": str(folder / _FEEDS)}
        calibrate(
            {
                "model": model,
                "samples": samples,
                "target": "",
                "observers": ["extremes"],
                "output": str(calibration),
            }
        )
    built: dict[str, Any] = {}
    for precision in payload["precisions"]:
        into = folder / precision
        into.mkdir()
        asked = {
            "model": model,
            "backend": payload["backend"],
            "precision": precision,
            "execution": payload["execution"],
            "calibration": str(calibration) if calibration.exists() else None,
            "method": "minmax",
            "folder": str(into),
            "processor": payload.get("processor"),
        }
        try:
            built[precision] = {**build(asked), "reason": ""}
        except EdgeportError as error:
            built[precision] = {"reason": error.found}
    return {"built": built}


def _write_product(folder: Path, size: int) -> None:
    """`product.onnx` (x float32 [batch, size, size] times constant weights), one sample of x, and numpy's product."""
    import onnx
    from onnx import TensorProto, helper

    random = np.random.default_rng(0)
    weight = random.standard_normal((size, size), dtype=np.float32) / np.float32(size) ** 0.5
    values = random.standard_normal((1, size, size), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"], name="product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", size, size])],
        [onnx.numpy_helper.from_array(weight.astype(np.float32), "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "product.onnx")
    save_npz(folder / _FEEDS, {"x": values})
    save_npz(folder / _EXPECTED, {"y": values @ weight})


def _best_ns(device: Device, job: TimeJob) -> float:
    """The shortest call of one process.

    Raises:
        EdgeportError: It failed, or computed something else.

    """
    trace = device.run(job)
    if trace.outputs_match is False:
        raise EdgeportError(
            asked="measure a peak", found="that its outputs were wrong", fix="look at the runtime on this device"
        )
    return min(trace.latency_ns) / trace.calls_per_reading


def _size(yardstick: Yardstick, facts: DeviceFacts) -> int:
    if isinstance(yardstick, Reading):
        return yardstick.size_bytes
    threads = yardstick.execution.threads or len(yardstick.execution.affinity) or facts.cores
    return next((size for most, size in _SIZES if threads <= most), _LARGEST_SIZE)


def _digest(contract: object) -> str:
    from edgeport.contracts import digest_json

    return digest_json(to_jsonable(contract))[:12]
