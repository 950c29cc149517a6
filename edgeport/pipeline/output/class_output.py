"""Which output of a model holds scores of classes, as far as its recipe says so; pure."""

from __future__ import annotations

from edgeport.accuracy.agreement import are_class_scores
from edgeport.contracts import DataSpec, OnnxModel

__all__ = ["class_output"]

_OF_CLASSES = ("top1", "top5")
_OF_TWO = ("auc", "eer")


def class_output(data: DataSpec, model: OnnxModel) -> str:
    """The output whose values [N, classes] are scores of classes; empty where nothing says that there is one.

    A shape alone says nothing: embeddings and regressions are floats [N, values] too. The metric does (top1 and top5;
    auc and eer of two values), and so do class names, one for each value.

    Args:
        data: How the recipe judges outputs.
        model: Whose outputs they are.

    """
    state = set(model.state)
    judged = next((spec for spec in model.outputs if spec.name not in state and data.output in ("", spec.name)), None)
    if judged is None or data.decode or not are_class_scores(judged.dtype, judged.shape):
        return ""
    classes = judged.shape[1]
    said = data.metric in _OF_CLASSES or (data.metric in _OF_TWO and classes == 2)
    return judged.name if said or classes == len(data.labels) else ""
