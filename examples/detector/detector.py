"""A detector that comes as an ONNX file: what its numbers mean, and photographs of COCO with their boxes."""

import os
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

SIZE, CELLS, MOST = 352, 22, 100


def overlaps(box, boxes):
    """Intersection over union of one box [4] with boxes [M, 4], all x1, y1, x2, y2."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    both = np.prod(np.maximum(sides, 0), axis=1)
    return both / (np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - both + 1e-9)


def one_image(found):
    """One output float32 [85, 22, 22] to boxes float32 [100, 6]: x1, y1, x2, y2 in 0..1, score, class."""
    rows, columns = np.mgrid[0:CELLS, 0:CELLS]
    middle_x, middle_y = (columns + np.tanh(found[1])) / CELLS, (rows + np.tanh(found[2])) / CELLS
    half_width, half_height = 1 / (1 + np.exp(-found[3:5])) / 2
    scores = (found[0] ** 0.6 * found[5:].max(axis=0) ** 0.4).ravel()
    corners = [middle_x - half_width, middle_y - half_height, middle_x + half_width, middle_y + half_height]
    boxes = np.stack([*corners, scores.reshape(CELLS, CELLS), found[5:].argmax(axis=0)], axis=-1).reshape(-1, 6)
    boxes = boxes[scores > 0.01][np.argsort(-scores[scores > 0.01], kind="stable")]
    kept = np.zeros((MOST, 6), np.float32)
    for place in range(MOST):
        if not len(boxes):
            break
        kept[place] = boxes[0]
        rivals = (boxes[:, 5] == boxes[0, 5]) & (overlaps(boxes[0, :4], boxes[:, :4]) > 0.45)
        rivals[0] = True
        boxes = boxes[~rivals]
    return kept


def boxes(outputs):
    """Outputs of the model, by name, to boxes [N, 100, 6]."""
    (found,) = outputs.values()
    return np.stack([one_image(one) for one in found])


def pack(name):
    path = Path(os.environ.get("EDGEPORT_ZOO", "")) / name
    if "EDGEPORT_ZOO" not in os.environ or not path.exists():
        sys.exit(f"needs {name} of the folder of models and data: set EDGEPORT_ZOO to it (see examples/README.md)")
    return path


def truth(text):
    """Lines of class, middle and size to float32 [100, 5]: x1, y1, x2, y2, class; filled up with class -1."""
    found = np.full((MOST, 5), -1, np.float32)
    for place, line in enumerate(text.splitlines()[:MOST]):
        kind, x, y, width, height = map(float, line.split())
        found[place] = x - width / 2, y - height / 2, x + width / 2, y + height / 2, kind
    return found


def evaluation():
    """A photograph at a time, as it is stored, and its boxes float32 [1, 100, 5]."""
    folder = Path(__file__).parent / "evaluation"
    for path in sorted(folder.glob("*.jpg")):
        image = np.asarray(Image.open(path).convert("RGB"))
        yield {"input.1": image[None]}, truth(path.with_suffix(".txt").read_text())[None]


if __name__ == "__main__":
    Path("fastestdet.onnx").write_bytes(pack("models/fastestdet.onnx").read_bytes())
    with zipfile.ZipFile(pack("coco128_dev.zip")) as packed:
        files = {(Path(name).suffix, Path(name).stem): name for name in packed.namelist() if "segment" not in name}
        names = sorted(stem for suffix, stem in files if suffix == ".txt" and (".jpg", stem) in files)
        for place, name in enumerate(names):
            folder, suffixes = ("evaluation", (".jpg", ".txt")) if place >= 32 else ("calibration", (".jpg",))
            Path(folder).mkdir(exist_ok=True)
            for suffix in suffixes:
                (Path(folder) / f"{name}{suffix}").write_bytes(packed.read(files[suffix, name]))
