"""Makes a subject's float ONNX file and its samples; run as a child, since it loads models and examples' code.

`python -m benchmarks.quantization.prepare KEY FOLDER COUNT...`

The folder gets `model.onnx`, `calibration.npz` (where ranges come from when accuracy is judged), `evaluation.npz`
(other samples), `target.npy` and `starts.json` where there are labels and sequences, and `many-COUNT.npz` for time and
memory.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import tomllib
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.harness import ROOT, cifar, example, package, pictures, zoo
from edgeport import api
from edgeport.calibration.data import NpzSamples
from edgeport.contracts import Array, ModelSource
from edgeport.npz import GrowingArray, save_npz

Arrays = Mapping[str, Array]

SEED = 0
IMAGES = 2000
"""Of CIFAR's 5,000 test images, drawn at random: judging takes a second per candidate and thousand images, or ten."""


WriteModel = Callable[[Path, Arrays], None]
"""Writes the float ONNX file to a path; two of the samples are traced where it is exported."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A subject.

    Attributes:
        write: Writes its ONNX file.
        calibration: Samples [N, ...] by input.
        evaluation: Other ones.
        target: Labels of the latter.
        starts: Of the latter: where sequences begin.
        many: As many samples as are asked for, each [1, ...] by input, of the calibration's kind.

    """

    write: WriteModel
    calibration: Arrays
    evaluation: Arrays
    target: Array | None = None
    starts: Sequence[int] = ()
    many: Iterable[Arrays] = field(repr=False)


def write_many(path: Path, samples: Iterable[Arrays], count: int) -> None:
    """The first `count` samples as one `.npz`, of which never more than one is in memory."""
    arrays: defaultdict[str, GrowingArray] = defaultdict(lambda: GrowingArray(path.parent))
    for _, sample in zip(range(count), samples, strict=False):
        for name, row in sample.items():
            arrays[name].add(row)
    partial = path.with_suffix(".part")
    save_npz(partial, arrays)
    for array in arrays.values():
        array.close()
    partial.replace(path)


def exported(location: str, search_path: Path = ROOT, **more: Any) -> WriteModel:
    """Of PyTorch, by `edgeport export`."""

    def write(path: Path, example: Arrays) -> None:
        with tempfile.TemporaryDirectory() as folder:
            samples = Path(folder) / "example.npz"
            save_npz(samples, {name: array[:2] for name, array in example.items()})
            source = ModelSource(location=location, search_path=search_path, **more)
            api.export(source, example=samples, output=path)

    return write


def rows(arrays: Arrays) -> Iterator[Arrays]:
    """Sample by sample."""
    for index in range(len(next(iter(arrays.values())))):
        yield {name: array[index : index + 1] for name, array in arrays.items()}


def varied(images: Sequence[Array], size: tuple[int, int]) -> Iterator[Array]:
    """The images again and again, each time shifted, mirrored or not, and lighter or darker; uint8 [H, W, 3].

    Args:
        images: uint8, at least `size`.
        size: Height and width of what is given.

    """
    number = 0
    while True:
        for image in images:
            random = np.random.default_rng([SEED, number])
            down, right = (random.integers(0, whole - part + 1) for whole, part in zip(image.shape, size, strict=False))
            part = image[down : down + size[0], right : right + size[1]]
            part = part[:, ::-1] if random.random() < 0.5 else part
            light = random.uniform(0.7, 1.3) * part.astype(np.float32) + random.uniform(-15, 15)
            yield np.clip(light, 0, 255).astype(np.uint8)
            number += 1


def lite0() -> Made:
    """As `examples/efficientnet`: every fifth photograph calibrates, the others judge."""
    packed = np.load(zoo("imagenet_dev.npz"))
    labels = packed["labels"]

    def fed(image: Array) -> Array:
        return ((image.astype(np.float32) - 127) / 128).transpose(2, 0, 1)[None]

    def middles(indices: Iterable[int]) -> Array:
        return np.concatenate([fed(image[16:240, 16:240]) for image in pictures(packed, indices)])

    others = [index for index in range(len(labels)) if index % 5]
    calibrating = range(0, len(labels), 5)
    return Made(
        write=exported("efficientnet:create", ROOT / "examples" / "efficientnet"),
        calibration={"inputs": middles(calibrating)},
        evaluation={"inputs": middles(others)},
        target=labels[others].astype(np.int64),
        many=({"inputs": fed(image)} for image in varied(list(pictures(packed, calibrating)), (224, 224))),
    )


def _cifar(network: str) -> Made:
    def chosen(name: str, rows: int, count: int) -> cifar.Images:
        return cifar.decoded(name, np.random.default_rng(SEED).permutation(rows)[:count]).scaled(network)

    train, judged = chosen("train", cifar.TRAINING, 1000), chosen("test_dev", cifar.HELD, IMAGES)
    return Made(
        write=exported(f"benchmarks.harness.networks:{network}"),
        calibration={"images": train.images[:128]},
        evaluation={"images": judged.images},
        target=judged.labels,
        many=rows({"images": train.images}),
    )


def resnet18() -> Made:
    """CIFAR-10 in the mean and deviation that it was trained with."""
    return _cifar("resnet18")


def resnet20() -> Made:
    """CIFAR-10 in the mean and deviation of ImageNet, as it was trained."""
    return _cifar("resnet20")


def minilm() -> Made:
    """As `examples/minilm` with its labels: pairs of the STS benchmark."""
    sts, tokenize = example("minilm", "minilm").sts, example("minilm", "tokens").tokenize
    train, judged = sts("stsb_train.csv"), sts("stsb_dev.csv")

    def fed(pairs: Sequence[Sequence[str]]) -> Arrays:
        found: Arrays = tokenize([pair[:2] for pair in pairs])
        return found

    return Made(
        write=exported("minilm:Nearness", ROOT / "examples" / "minilm"),
        calibration=fed(train[::45]),
        evaluation=fed(judged),
        target=np.array([float(pair[2]) for pair in judged]),
        many=rows(fed(train[:: len(train) // 1000][:1000])),
    )


def detector() -> Made:
    """As `examples/detector`: a third of COCO128's photographs calibrates, the others judge."""
    from PIL import Image

    truth = example("detector", "detector").truth

    def write(path: Path, example: Arrays) -> None:
        from onnx import version_converter

        del example
        onnx.save(version_converter.convert_version(onnx.load(zoo("models/fastestdet.onnx")), 20), path)

    def fed(image: Array) -> Array:
        resized = np.asarray(Image.fromarray(image).resize((352, 352), Image.Resampling.BILINEAR))
        return (resized[:, :, ::-1] / np.float32(255)).astype(np.float32).transpose(2, 0, 1)[None]

    with zipfile.ZipFile(zoo("coco128_dev.zip")) as packed:
        files = {(Path(name).suffix, Path(name).stem): name for name in packed.namelist() if "segment" not in name}
        names = sorted(stem for suffix, stem in files if suffix == ".txt" and (".jpg", stem) in files)
        images = {
            name: np.asarray(Image.open(io.BytesIO(packed.read(files[".jpg", name]))).convert("RGB")) for name in names
        }
        boxes = [truth(packed.read(files[".txt", name]).decode()) for name in names[32:]]
    first = [images[name] for name in names[:32]]
    large = [np.asarray(Image.fromarray(image).resize((400, 400))) for image in first]
    return Made(
        write=write,
        calibration={"input.1": np.concatenate([fed(image) for image in first])},
        evaluation={"input.1": np.concatenate([fed(images[name]) for name in names[32:]])},
        target=np.stack(boxes),
        many=({"input.1": fed(image)} for image in varied(large, (352, 352))),
    )


def speaker() -> Made:
    """As `examples/speaker`: ten pieces of each speaker calibrate, the others judge."""
    speaker, mel = example("speaker", "speaker"), example("speaker", "mel")
    length = speaker.FRAMES * speaker.STEP

    def fed(waves: Array) -> Array:
        found: Array = mel.spectrograms(waves.astype(np.float32) / 32768)
        return found

    voices = []
    for waves in speaker.spoken(np.load(zoo("fsdd_dev.npz"))).values():
        order = np.random.default_rng(0).permutation(len(waves))
        voices.append(np.concatenate([waves[index] for index in order]))
    pieces = [voice[: len(voice) // length * length].reshape(-1, length) for voice in voices]

    def many() -> Iterator[Arrays]:
        for number in range(1 << 30):
            random = np.random.default_rng([SEED, number])
            voice = voices[number % len(voices)][: 10 * length]
            start = random.integers(0, len(voice) - length)
            yield {"mels": fed(random.uniform(0.3, 1.0) * voice[None, start : start + length])}

    return Made(
        write=exported("speaker:create", ROOT / "examples" / "speaker"),
        calibration={"mels": fed(np.concatenate([piece[:10] for piece in pieces]))},
        evaluation={"mels": fed(np.concatenate([piece[10:] for piece in pieces]))},
        target=np.repeat(np.arange(len(pieces)), [len(piece) - 10 for piece in pieces]),
        many=many(),
    )


def vad() -> Made:
    """As `examples/vad`, with the rate written into the graph and the batch first in the state.

    Calibration samples come with the state that the float model has there; it is fed back where outputs are judged.
    """
    windows = example("vad", "vad").windows
    calibration, evaluation = windows(range(4)), windows(range(100, 116))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        write_vad(path, {})
        states = _states(path, calibration["input"], _starts(calibration["sound"]))
    both = {"input": calibration["input"], "held": states}
    return Made(
        write=write_vad,
        calibration=both,
        evaluation={"input": evaluation["input"], "held": np.zeros((1, 2, 128), np.float32)},
        starts=_starts(evaluation["sound"]),
        many=rows(both),
    )


def write_vad(path: Path, example: Arrays) -> None:
    """The package's file without its branches, and with a state [N, 2, 128]."""
    from edgeport.exporter.passes.constant_folding import fold_constants, simplify
    from edgeport.onnx_files import read_ir, write_constants, write_ir

    del example
    ir = read_ir(package("silero_vad") / "data" / "silero_vad.onnx")
    write_constants(ir, {"sr": 16000})
    fold_constants(ir)
    simplify(ir)
    write_ir(ir, path)
    model = onnx.load(path)
    graph = model.graph
    for values, old, new, shape in (
        (graph.input, "state", "held", [2, 128]),
        (graph.input, "input", "input", [576]),
        (graph.output, "stateN", "heldN", [2, 128]),
    ):
        (value,) = (value for value in values if value.name == old)
        value.CopyFrom(helper.make_tensor_value_info(new, TensorProto.FLOAT, ["batch", *shape]))
    graph.node.insert(0, helper.make_node("Transpose", ["held"], ["state"], "held_first", perm=[1, 0, 2]))
    graph.node.append(helper.make_node("Transpose", ["stateN"], ["heldN"], "held_last", perm=[1, 0, 2]))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _starts(sounds: Array) -> list[int]:
    return [0, *(int(index) + 1 for index in np.flatnonzero(np.diff(sounds)))]


def _states(path: Path, windows: Array, starts: Sequence[int]) -> Array:
    import onnxruntime as ort

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    held, found = np.zeros((1, 2, 128), np.float32), []
    for index, window in enumerate(windows):
        held = np.zeros_like(held) if index in starts else held
        found.append(held)
        (held,) = session.run(["heldN"], {"input": window[None], "held": held})
    return np.concatenate(found)


def vit() -> Made:
    """As `examples/vit`: trained for some seconds on scikit-learn's digits."""
    import timm
    import torch
    from safetensors.torch import save_file
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = ((digits.images[order] * 15).astype(np.uint8)[:, None] / np.float32(240)).astype(np.float32)
    labels = digits.target[order]
    recipe = tomllib.loads((ROOT / "examples" / "vit" / "edgeport.toml").read_text(encoding="utf-8"))
    arguments = recipe["model"]["arguments"]
    network = timm.create_model("vit_tiny_patch16_224", **arguments)
    example("vit", "vit").train(network, torch.from_numpy(images[:1024]), torch.from_numpy(labels[:1024]))

    def write(path: Path, example: Arrays) -> None:
        with tempfile.TemporaryDirectory() as folder:
            weights = Path(folder) / "vit.safetensors"
            save_file(network.state_dict(), weights)
            exported("timm:vit_tiny_patch16_224", arguments=arguments, weights=weights)(path, example)

    return Made(
        write=write,
        calibration={"x": images[:128]},
        evaluation={"x": images[1024:]},
        target=labels[1024:].astype(np.int64),
        many=rows({"x": images[:1000]}),
    )


def tiny() -> Made:
    """Three products on random numbers."""

    def write(path: Path, example: Arrays) -> None:
        del example
        random = np.random.default_rng(SEED)
        model = onnx.parser.parse_model(
            '<ir_version: 10, opset_import: ["" : 20]> tiny (float[batch, 64] x) => (float[batch, 10] m2) {'
            "[product0] m0 = MatMul (x, w0) [relu0] r0 = Relu (m0) [product1] m1 = MatMul (r0, w1) "
            "[relu1] r1 = Relu (m1) [product2] m2 = MatMul (r1, w2) }"
        )
        for index, shape in enumerate([(64, 128), (128, 64), (64, 10)]):
            matrix = random.normal(0, shape[0] ** -0.5, shape).astype(np.float32)
            model.graph.initializer.append(numpy_helper.from_array(matrix, f"w{index}"))
        onnx.checker.check_model(model)
        onnx.save(model, path)

    drawn = np.random.default_rng(SEED + 1).standard_normal((1200, 64)).astype(np.float32)
    return Made(
        write=write,
        calibration={"x": drawn[:64]},
        evaluation={"x": drawn[1000:]},
        many=rows({"x": drawn[:1000]}),
    )


MAKERS = {each.__name__: each for each in (lite0, resnet18, resnet20, minilm, detector, speaker, vad, vit, tiny)}


def main() -> int:
    """Makes one subject."""
    key, folder, counts = sys.argv[1], Path(sys.argv[2]), [int(count) for count in sys.argv[3:]]
    folder.mkdir(parents=True, exist_ok=True)
    made = MAKERS[key]()
    made.write(folder / "model.onnx", made.calibration)
    save_npz(folder / "calibration.npz", made.calibration)
    save_npz(folder / "evaluation.npz", made.evaluation)
    if made.target is not None:
        np.save(folder / "target.npy", made.target, allow_pickle=False)
    (folder / "starts.json").write_text(json.dumps(list(made.starts)), encoding="utf-8")
    most = folder / f"many-{max(counts)}.npz"
    write_many(most, made.many, max(counts))
    for count in set(counts) - {max(counts)}:
        write_many(folder / f"many-{count}.npz", (one.feeds for one in NpzSamples(most, batch_size=1)), count)
    (folder / "made").touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
