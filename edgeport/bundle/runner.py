# SPDX-License-Identifier: Apache-2.0
"""Runs the artifact of this bundle; needs numpy and its runtime, nothing else.

python run.py                      runs the recorded sample and compares with the recorded outputs
python run.py --input mine.npz     runs your own: one array per input, by its name; axis 0 counts samples. Inputs with
                                   declared preprocessing take raw samples, such as images [N, height, width, 3] of
                                   uint8; with --preprocessed they take what comes out of it. Of a model with a state
                                   (see the manifest) they are the steps of one sequence
python run.py --input a.jpg b.jpg  runs image files (needs Pillow), where the model takes images and declares how
python run.py --output out.npz     also writes the outputs
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import sys
import zipfile
from pathlib import Path
from typing import Any, Iterator, NoReturn  # noqa: UP035 (Python 3.8 can't subscript that of collections.abc)

sys.dont_write_bytecode = True  # compiled files would lie beside those that the manifest knows

import numpy as np  # noqa: E402 (after the line above)

HERE = Path(__file__).resolve().parent
SHOWN_SAMPLES = 10
SHOWN_VALUES = 6
# Largest difference to the recorded outputs, relative to the largest of them. Another processor sums in another
# order, and an integer or a bf16 number that is rounded the other way is a whole step off.
TOLERANCE = {"fp32": 1e-4}
COARSE_TOLERANCE = 0.05
# What is read of the manifest; a list of one form stands for any number of items of that form.
MANIFEST = {
    "name": str,
    "candidate": str,
    "files": dict,
    "inputs": [{"name": str, "dtype": str, "shape": list}],
    "labels": [str],
    "device": {"cpu": str},
    "artifact": {"entry": str, "settings": dict, "precision": str, "execution": {"batch": int}},
}


def main() -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--input",
        type=Path,
        nargs="+",
        help=".npz with one array per input, or image files (default: the recorded sample)",
    )
    parser.add_argument("--preprocessed", action="store_true", help="--input went through the preprocessing already")
    parser.add_argument("--output", type=Path, help=".npz that the outputs are written to")
    arguments = parser.parse_args()
    manifest = read_manifest()
    check_files(manifest)
    if arguments.input:
        arrays = read_inputs(manifest, arguments.input)
        arrays = arrays if arguments.preprocessed else preprocessed(manifest, arrays)
    else:
        arrays = load_arrays(HERE / "sample.npz")
    feeds = inputs_of(manifest, arrays)
    check_feeds(manifest, feeds)
    outputs = infer(manifest, feeds)
    say(f"{manifest['name']} ({manifest['candidate']}), samples: {count(feeds)}")
    show(manifest, outputs)
    if arguments.output:
        save_arrays(arguments.output, outputs)
        say(f"outputs are in {arguments.output}")
    return 0 if arguments.input else compare(manifest, outputs)


def read_manifest() -> dict[str, Any]:
    """The manifest; stops unless everything that is read of it is there."""
    try:
        manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        stop(f"there is no manifest.json in {HERE}; get the bundle again, all of it")
    except (OSError, ValueError, RecursionError) as error:
        stop(f"manifest.json can't be read ({error}); get the bundle again")
    wrong = misfit(manifest, MANIFEST, "")
    if not wrong and manifest["artifact"]["execution"]["batch"] < 1:
        wrong = "artifact.execution.batch"
    if wrong:
        stop(f"manifest.json is damaged: {wrong} is missing or not what it should be; get the bundle again")
    return manifest  # type: ignore[no-any-return]


def misfit(value: Any, form: Any, where: str) -> str:
    """Where a value is not of that form ("artifact.entry"); empty if it is."""
    if isinstance(form, type):
        return "" if isinstance(value, form) and not isinstance(value, bool) else where
    if not isinstance(value, type(form)):
        return where or "the whole of it"
    pairs = [(f"{index}", item, form[0]) for index, item in enumerate(value)] if isinstance(form, list) else []
    if isinstance(form, dict):
        pairs = [(name, value.get(name), inner) for name, inner in form.items()]
    found = (misfit(item, inner, f"{where}.{name}" if where else name) for name, item, inner in pairs)
    return next((wrong for wrong in found if wrong), "")


def check_files(manifest: dict[str, Any]) -> None:
    """Stops if a file is not as it was packed."""
    for name, digest in manifest["files"].items():
        path = HERE / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            stop(f"{name} is missing or was changed since this bundle was made; get the bundle again")


def load_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an .npz by name; nothing in it is unpickled."""
    try:
        with np.load(str(path), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # noqa: BLE001 (numpy raises many kinds for a damaged file)
        stop(f"{path} is no .npz of plain arrays ({error})")


def read_inputs(manifest: dict[str, Any], paths: list[Path]) -> dict[str, Any]:
    """The arrays of one .npz, or image files as raw images of the input that takes images."""
    if len(paths) == 1 and paths[0].suffix == ".npz":
        return load_arrays(paths[0])
    specs = [spec for spec in manifest["inputs"] if "resize" in (spec.get("preprocessing") or {})]
    if len(specs) != 1 or len(fed(manifest)) != 1:
        names = [spec["name"] for spec in fed(manifest)]
        stop(f"{paths[0]} is no .npz, and this model does not take raw images alone; give an .npz with {names}")
    settings = specs[0]["preprocessing"]
    channels = specs[0]["shape"][settings["layout"].index("C")]
    return {settings["raw"] or specs[0]["name"]: [read_image(path, "L" if channels == 1 else "RGB") for path in paths]}


def read_image(path: Path, mode: str) -> Any:
    """An image file as uint8 [H, W] or [H, W, 3]."""
    try:
        from PIL import Image
    except ImportError:
        stop(f"reading {path} needs Pillow (pip install pillow); or give an .npz with raw images")
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode))
    except Exception as error:  # noqa: BLE001 (Pillow raises many kinds for what is no image)
        stop(f"{path} can't be read as an image ({error})")


def preprocessed(manifest: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """Raw samples as the model takes them, as each input declares it."""
    made: dict[str, Any] = {}
    used = set()
    for spec in manifest["inputs"]:
        declared = spec.get("preprocessing")
        if not declared or spec["name"] in made:
            continue
        raw = declared["raw"] or spec["name"]
        if raw not in arrays:
            stop(f"input {spec['name']} is made from raw samples called {raw}; the file has {sorted(arrays)}")
        used.add(raw)
        made.update(prepared(manifest, spec, arrays[raw]))
    return {**{name: array for name, array in arrays.items() if name not in used}, **made}


def prepared(manifest: dict[str, Any], spec: dict[str, Any], raw: Any) -> dict[str, Any]:
    """The arrays that the raw samples of one input become."""
    declared, name = spec["preprocessing"], spec["name"]
    if "function" in declared:
        module, function = declared["function"].split(":")
        if f"{module}.py" not in manifest["files"]:
            stop(
                f"input {name} is made by {declared['function']}, which is not in this bundle; "
                "give what it returns, with --preprocessed"
            )
        returned = getattr(load_module(module), function)(raw)
        return dict(returned) if isinstance(returned, dict) else {name: returned}
    try:
        return {name: load_module("preprocess").prepare_images(raw, declared, spec["dtype"])}
    except ValueError as error:
        stop(f"input {name}: {error}; arrays that went through the preprocessing already need --preprocessed")


def save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Writes an .npz; numpy.savez takes no array called "file"."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(array, order="C"), allow_pickle=False)


def inputs_of(manifest: dict[str, Any], arrays: dict[str, Any]) -> dict[str, Any]:
    """The arrays that are inputs; what else stands in the file (labels) is named and left out."""
    names = {spec["name"] for spec in fed(manifest)}
    others = sorted(set(arrays) - names)
    if others and names <= set(arrays):
        say(f"left out, for they are no inputs: {', '.join(others)}")
        return {name: arrays[name] for name in arrays if name in names}
    return arrays


def fed(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """The inputs that a user feeds: all but the state, which outputs feed."""
    return [spec for spec in manifest["inputs"] if spec["name"] not in state_of(manifest).values()]


def state_of(manifest: dict[str, Any]) -> dict[str, str]:
    """Output to the input that it feeds on the next call; empty for a model without state."""
    state = manifest.get("state") or {}
    if not isinstance(state, dict) or misfit(list(state.values()), [str], "state"):
        stop("manifest.json is damaged: state is not what it should be; get the bundle again")
    return state


def check_range(manifest: dict[str, Any], name: str, label: str, size: int) -> None:
    """Stops if a free axis is larger or smaller than the model was verified for."""
    factor, _, root = label.rpartition("*")
    span = (manifest.get("axes") or {}).get(root)
    times = int(factor) if factor else 1
    if isinstance(span, dict) and not times * span["minimum"] <= size <= times * span["maximum"]:
        stop(f"input {name} has {size} as {label}; it takes {times * span['minimum']} to {times * span['maximum']}")


def check_feeds(manifest: dict[str, Any], feeds: dict[str, Any]) -> None:
    """Stops unless there is one array per input, of its type and shape."""
    wanted = {spec["name"]: spec for spec in fed(manifest)}
    if set(feeds) != set(wanted):
        stop(f"this model takes {sorted(wanted)}; the file has {sorted(feeds)}")
    for name, spec in wanted.items():
        array, shape = feeds[name], spec["shape"]
        fits = array.ndim == len(shape) and all(
            axis == 0 or isinstance(shape[axis], str) or shape[axis] == array.shape[axis] for axis in range(array.ndim)
        )
        if not fits or str(array.dtype) != spec["dtype"]:
            stop(f"input {name} is {array.dtype} {list(array.shape)}; the model takes {spec['dtype']} {shape}")
        for label, size in zip(shape[1:], array.shape[1:]):  # noqa: B905 (strict is Python 3.10)
            if isinstance(label, str):
                check_range(manifest, name, label, size)
    if len({len(array) for array in feeds.values()}) != 1 or not count(feeds):
        stop("the inputs need the same number of samples, at least one")


def count(feeds: dict[str, Any]) -> int:
    """Number of samples."""
    return len(next(iter(feeds.values())))


def infer(manifest: dict[str, Any], feeds: dict[str, Any]) -> dict[str, Any]:
    """Outputs by name, for all samples; in calls of the batch size that the artifact was measured with.

    With a state each call takes one step, and what an output gives goes into the input that it feeds, in the next.
    """
    artifact, state = manifest["artifact"], state_of(manifest)
    batch, total = 1 if state else artifact["execution"]["batch"], count(feeds)
    held = load_arrays(HERE / "state.npz") if state else {}
    session = open_session(artifact)
    # The last sample is repeated to fill the last call: a compiled artifact may take one batch size only.
    indices = (np.minimum(np.arange(start, start + batch), total - 1) for start in range(0, total, batch))
    calls = ({name: np.ascontiguousarray(array[rows]) for name, array in feeds.items()} for rows in indices)
    parts = []
    try:
        if runs_several(artifact) and not state and hasattr(session, "stream"):
            results = session.stream(calls)
        else:
            results = one_by_one(session, calls, state, held)
        for start, outputs in zip(range(0, total, batch), results):  # noqa: B905 (strict is Python 3.10)
            parts.append({name: rows_of(array, batch)[: total - start] for name, array in outputs.items()})
    finally:
        session.close()
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def runs_several(artifact: dict[str, Any]) -> bool:
    """Whether the artifact was made to work on several calls at once."""
    layout = artifact["execution"].get("layout")
    return isinstance(layout, dict) and layout.get("kind", "single-stream") != "single-stream"


def one_by_one(session: Any, calls: Any, state: dict[str, str], held: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Outputs of each call but its state, which the next call is fed."""
    for feeds in calls:
        call = session.bind({**feeds, **held})
        call.run()
        outputs = call.outputs()
        held = {into: outputs.pop(out) for out, into in state.items()}
        yield outputs


def rows_of(array: Any, batch: int) -> Any:
    """An output with an axis that counts samples, also where a call of one sample gave one number."""
    return array.reshape(1) if batch == 1 and array.ndim == 0 else array


def open_session(artifact: dict[str, Any]) -> Any:
    """The artifact, opened by the module beside this file with its runtime."""
    session = load_module("session")
    try:
        return session.open_session(str(HERE / "artifact" / artifact["entry"]), dict(artifact["settings"]))
    except ImportError as error:
        stop(f"{error}; install what it needs: pip install -r {HERE / 'requirements.txt'}")


def load_module(name: str) -> Any:
    """The module of that name beside this file."""
    spec = importlib.util.spec_from_file_location(f"bundle_{name}", str(HERE / f"{name}.py"))
    if spec is None or spec.loader is None:
        stop(f"{name}.py can't be loaded")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        stop(f"{name}.py: {error}; install what it needs: pip install -r {HERE / 'requirements.txt'}")
    return module


def show(manifest: dict[str, Any], outputs: dict[str, Any]) -> None:
    """Prints shapes, and of each sample the best class where the output is known to hold scores, else first values."""
    labels, scores = manifest["labels"], manifest.get("class_output")
    for name, array in outputs.items():
        say(f"  {name}: {array.dtype} {list(array.shape)}")
        classes = name == scores and array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind == "f"
        for index, row in enumerate(array[:SHOWN_SAMPLES]):
            say(f"    sample {index}: {best_class(row, labels) if classes else first_values(row)}")
        if len(array) > SHOWN_SAMPLES:
            say(f"    ... and {len(array) - SHOWN_SAMPLES} more")


def best_class(scores: Any, labels: list[str]) -> str:
    """The class of the largest score."""
    best = int(np.argmax(scores))
    label = labels[best] if len(labels) == len(scores) else f"class {best}"
    return f"{label} (score {float(scores[best]):.4g})"


def first_values(row: Any) -> str:
    """The first values of an output for one sample, in the order of its axes."""
    values = np.asarray(row).reshape(-1)
    shown = [f"{value:.4g}" if values.dtype.kind == "f" else str(value) for value in values[:SHOWN_VALUES].tolist()]
    more = len(values) - len(shown)
    return " ".join(shown) + (f" ... and {more} more values" if more else "")


def compare(manifest: dict[str, Any], outputs: dict[str, Any]) -> int:
    """Prints how far the outputs are from the recorded ones; returns the exit status."""
    tolerance = TOLERANCE.get(manifest["artifact"]["precision"], COARSE_TOLERANCE)
    worst = max(difference(outputs.get(name), wanted) for name, wanted in load_arrays(HERE / "expected.npz").items())
    if worst > tolerance:
        say(f"DIFFERENT: {worst:.2g} of the largest recorded output away; {tolerance:g} is allowed")
        return 1
    how = "equal to" if worst == 0 else f"within {worst:.2g} of"
    say(f"outputs are {how} those recorded on {manifest['device']['cpu']}")
    return 0


def difference(got: Any, wanted: Any) -> float:
    """Largest difference, relative to the largest number in `wanted`; infinite where they can't be compared.

    NaN and Inf must stand where they were recorded, and nowhere else.
    """
    if got is None or got.shape != wanted.shape:
        return float("inf")
    if np.array_equal(got, wanted):
        return 0.0
    if got.dtype.kind not in "fiu":
        return float("inf")
    ours, recorded = got.astype(np.float64), wanted.astype(np.float64)
    finite = np.isfinite(recorded)
    same = (ours == recorded) | (np.isnan(ours) & np.isnan(recorded))
    if not np.where(finite, np.isfinite(ours), same).all():
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(float(np.max(np.abs(recorded[finite]))), 1e-30)
    return float(np.max(np.abs(ours[finite] - recorded[finite]))) / scale


def say(line: str) -> None:
    """Prints a line; what a terminal would take as a command is shown as text."""
    sys.stdout.write("".join(c if c.isprintable() else repr(c)[1:-1] for c in line) + "\n")


def stop(line: str) -> NoReturn:
    """Ends the program with a message."""
    raise SystemExit(f"run.py: {line}")


if __name__ == "__main__":
    sys.exit(main())
