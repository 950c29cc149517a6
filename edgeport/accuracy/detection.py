"""Mean average precision of detections at an overlap of a half (COCO's AP50).

pycocotools matches detections with the true boxes, image by image. The average precision is computed from its matches
here, over weighted images: a bootstrap is weights (how often each image was drawn), and images are matched once.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeport.contracts.samples import Array
from edgeport.errors import DependencyError, SamplesError

__all__ = ["map50"]

_MOST_PER_IMAGE = 100
"""COCO's own limit: the best of these many are judged."""

_CERTAIN = 0.25
"""From this score on, a detection of the float model counts as a true box where there are no labels."""

_RECALLS = np.linspace(0.0, 1.0, 101)


def map50(output: Array, target: Array) -> Callable[[Array], float]:
    """AP50 as COCO defines it: 101 points of recall, at most 100 detections per image, averaged over the classes.

    Args:
        output: Detections [N, boxes, 6]: x1, y1, x2, y2, score, class. A score of 0 or less marks an empty row.
        target: True boxes [N, boxes, 5]: x1, y1, x2, y2, class, in the same unit; a class below 0 marks an empty row.
            Or detections of the float model [N, boxes, 6], whose boxes with a score of 0.25 or more count as true.

    Returns:
        Weights [N] to the mean over the classes that have a true box, 0..1; NaN where none has.

    Raises:
        SamplesError: Another form, or no true box at all.
        DependencyError: pycocotools is not installed.

    """
    _check_form(output, target)
    truth = target if target.shape[2] == 5 else _certain(target)
    kept = truth[:, :, 4] >= 0
    if not kept.any():
        raise SamplesError(
            asked="compute map50",
            found="no true box in any image",
            fix="give boxes with a class of 0 or more as the labels"
            if target.shape[2] == 5
            else f"give labels: the float model finds nothing with a score of {_CERTAIN} or more",
        )
    classes = [_Class.of(len(output), matches) for matches in _matched(output, truth, kept)]

    def mean(weights: Array) -> float:
        values = [value for one in classes if (value := one.precision(np.asarray(weights, np.float64))) is not None]
        return float(np.mean(values)) if values else float("nan")

    return mean


def _check_form(output: Array, target: Array) -> None:
    for what, array, widths in (("output", output, (6,)), ("target", target, (5, 6))):
        if array.ndim != 3 or array.shape[2] not in widths or array.dtype.kind not in "fiu":
            raise SamplesError(
                asked="compute map50",
                found=f"an {what} of shape {list(array.shape)} ({array.dtype})".replace("an target", "a target"),
                fix="detections are [samples, boxes, 6] with x1, y1, x2, y2, score, class, true boxes [samples, boxes, "
                "5] with x1, y1, x2, y2, class; give a function that makes such detections of the model's outputs in "
                "[data] decode",
            )


def _certain(detections: Array) -> Array:
    kept = detections[:, :, 4] >= _CERTAIN
    boxes = np.concatenate([detections[:, :, :4], detections[:, :, 5:]], axis=2)
    boxes[:, :, 4] = np.where(kept, boxes[:, :, 4], -1)
    return boxes


@dataclass(frozen=True, kw_only=True)
class _Class:
    """Detections of one class over all images, the best first.

    Attributes:
        image: Index of each one's image.
        right: It matches a true box.
        true_boxes: float64 [N], number of true boxes in each image.

    """

    image: Array
    right: Array
    true_boxes: Array

    @classmethod
    def of(cls, count: int, matches: list[tuple[int, dict[str, Any]]]) -> _Class:
        true_boxes = np.zeros(count)
        for image, found in matches:
            true_boxes[image] = len(found["gtIds"])
        scores = np.concatenate([np.zeros(0), *(np.asarray(found["dtScores"], float) for _, found in matches)])
        images = np.repeat([image for image, _ in matches], [len(found["dtScores"]) for _, found in matches])
        right = np.concatenate([np.zeros(0, bool), *(np.asarray(found["dtMatches"][0]) > 0 for _, found in matches)])
        order = np.argsort(-scores, kind="mergesort")  # the order of equal scores is COCO's
        return cls(image=images.astype(np.int64)[order], right=right[order], true_boxes=true_boxes)

    def precision(self, weights: Array) -> float | None:
        """The average precision over weighted images; None where these hold no box of this class."""
        boxes = float(weights @ self.true_boxes)
        if not boxes:
            return None
        if not len(self.image):
            return 0.0
        each = weights[self.image]
        right = np.cumsum(each * self.right)
        precision = right / np.maximum(np.cumsum(each), np.spacing(1.0))
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(right / boxes, _RECALLS, side="left")
        return float(np.where(at < len(envelope), envelope[np.minimum(at, len(envelope) - 1)], 0.0).mean())


def _matched(output: Array, truth: Array, kept: Array) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """Per class that has a true box, COCO's matches in each image."""
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise DependencyError(
            asked="compute map50",
            found="no package pycocotools, which matches the boxes",
            fix="pip install 'edgeport[detection]'",
        ) from error
    boxes = [_annotation(image, truth[image, row, :4], truth[image, row, 4]) for image, row in np.argwhere(kept)]
    found = [
        _annotation(image, output[image, row, :4], output[image, row, 5], float(output[image, row, 4]))
        for image, row in np.argwhere(output[:, :, 4] > 0)
    ]
    categories = sorted({box["category_id"] for box in boxes})
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        evaluation = COCOeval(_dataset(COCO(), len(output), categories, boxes), iouType="bbox")
        evaluation.cocoDt = _dataset(COCO(), len(output), categories, found)
        parameters = evaluation.params
        parameters.iouThrs, parameters.maxDets = np.array([0.5]), [_MOST_PER_IMAGE]
        parameters.areaRng, parameters.areaRngLbl = [[0.0, np.inf]], ["all"]
        parameters.imgIds, parameters.catIds = list(range(len(output))), categories
        evaluation.evaluate()
    for index in range(len(categories)):
        part = evaluation.evalImgs[index * len(output) : (index + 1) * len(output)]
        yield [(image, one) for image, one in enumerate(part) if one is not None]


def _annotation(image: int, corners: Array, category: float, score: float | None = None) -> dict[str, Any]:
    left, top, right, bottom = map(float, corners)
    width, height = max(right - left, 0.0), max(bottom - top, 0.0)
    box = {"image_id": int(image), "bbox": [left, top, width, height], "area": width * height, "iscrowd": 0}
    return box | {"category_id": int(category)} | ({} if score is None else {"score": score})


def _dataset(coco: Any, images: int, categories: list[int], boxes: list[dict[str, Any]]) -> Any:
    coco.dataset = {
        "info": {},
        "images": [{"id": image} for image in range(images)],
        "categories": [{"id": category} for category in categories],
        "annotations": [box | {"id": number + 1} for number, box in enumerate(boxes)],  # 0 means no match
    }
    coco.createIndex()
    return coco
