"""Average precision: hand-made cases, COCO's own sum over the same boxes, and its bootstrap."""

import contextlib
import io
import sys

import numpy as np
import pytest

from edgeport.accuracy import METRICS, accuracy_result, evaluate
from edgeport.accuracy.detection import map50
from edgeport.contracts import Array, Outcome
from edgeport.errors import DependencyError, SamplesError

pytest.importorskip("pycocotools", reason="it matches the boxes")

BOX = (10.0, 10.0, 20.0, 20.0)
AWAY = (50.0, 50.0, 60.0, 60.0)
NONE = (0.0, 0.0, 0.0, 0.0)


def found(*rows: tuple[tuple[float, ...], float, int]) -> Array:
    return np.array([[(*box, score, label) for box, score, label in rows]], np.float32)


def true(*rows: tuple[tuple[float, ...], int]) -> Array:
    return np.array([[(*box, label) for box, label in rows]], np.float32)


@pytest.mark.parametrize(
    ("output", "target", "value"),
    [
        pytest.param(found((BOX, 0.9, 0)), true((BOX, 0)), 1.0, id="found"),
        pytest.param(found((AWAY, 0.9, 0)), true((BOX, 0)), 0.0, id="elsewhere"),
        pytest.param(found((BOX, 0.9, 1)), true((BOX, 0)), 0.0, id="another class"),
        pytest.param(found((BOX, 0.0, 0)), true((BOX, 0)), 0.0, id="an empty row"),
        pytest.param(found((BOX, 0.9, 0)), true((BOX, 0), (NONE, -1)), 1.0, id="an empty row of the labels"),
        pytest.param(found((BOX, 0.9, 0), (BOX, 0.8, 0)), true((BOX, 0)), 1.0, id="twice, the right one first"),
        pytest.param(found((AWAY, 0.9, 0), (BOX, 0.8, 0)), true((BOX, 0)), 0.5, id="a wrong one first"),
        pytest.param(found((BOX, 0.9, 0)), true((BOX, 0), (AWAY, 0)), 51 / 101, id="half of them"),
        pytest.param(found((BOX, 0.9, 0)), true((BOX, 0), (AWAY, 1)), 0.5, id="one of two classes"),
        pytest.param(found(((10, 10, 20, 15.1), 0.9, 0)), true((BOX, 0)), 1.0, id="overlap just over a half"),
        pytest.param(found(((10, 10, 20, 14.9), 0.9, 0)), true((BOX, 0)), 0.0, id="overlap just under a half"),
    ],
)
def test_hand_made_cases(output: Array, target: Array, value: float) -> None:
    assert evaluate(METRICS["map50"], {"o": output}, target).value == pytest.approx(value)


def scene(images: int, noise: float, seed: int = 0) -> tuple[Array, Array]:
    """Detections [images, 12, 6] near the true boxes [images, 8, 5] of 3 classes, with some that are nothing."""
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 80, (images, 8, 2))
    boxes = np.concatenate([corners, corners + random.uniform(5, 30, (images, 8, 2))], axis=2)
    labels = random.integers(0, 3, (images, 8, 1)).astype(float)
    labels[random.random((images, 8, 1)) < 0.3] = -1
    near = boxes + noise * random.normal(size=boxes.shape)
    near = np.concatenate([np.minimum(near[:, :, :2], near[:, :, 2:]), np.maximum(near[:, :, :2], near[:, :, 2:])], 2)
    scores = np.clip(random.random((images, 8, 1)) * (labels >= 0), 0, 1)
    hits = np.concatenate([near, scores, np.maximum(labels, 0)], axis=2)
    corners = random.uniform(0, 80, (images, 4, 2))
    rest = [corners, corners + 10, random.random((images, 4, 1)) * 0.8, random.integers(0, 3, (images, 4, 1))]
    return np.concatenate([hits, np.concatenate(rest, axis=2)], axis=1), np.concatenate([boxes, labels], axis=2)


def coco_ap50(output: Array, target: Array) -> float:
    """What COCO itself makes of these boxes, from its matches to its sum."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def filled(rows: list[dict[str, object]]) -> COCO:
        coco = COCO()
        coco.dataset = {
            "images": [{"id": n} for n in range(len(output))],
            "categories": [{"id": n} for n in range(3)],
            "annotations": [row | {"id": n + 1, "iscrowd": 0} for n, row in enumerate(rows)],
        }
        coco.createIndex()
        return coco

    def row(image: int, box: Array, label: float) -> dict[str, object]:
        x, y, right, bottom = map(float, box)
        area = (right - x) * (bottom - y)
        return {"image_id": image, "bbox": [x, y, right - x, bottom - y], "category_id": int(label), "area": area}

    truth = [row(n, one[:4], one[4]) for n, image in enumerate(target) for one in image if one[4] >= 0]
    hits = [
        row(n, one[:4], one[5]) | {"score": one[4]} for n, image in enumerate(output) for one in image if one[4] > 0
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(filled(truth), filled(hits), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[1])


@pytest.mark.parametrize("noise", [0.5, 4.0])
def test_the_whole_is_coco_s_own_figure(noise: float) -> None:
    output, target = scene(25, noise)

    assert evaluate(METRICS["map50"], {"o": output}, target).value == pytest.approx(coco_ap50(output, target))


def test_weights_are_images_that_occur_so_often() -> None:
    output, target = scene(12, 3.0)
    weights = np.random.default_rng(1).integers(0, 3, 12)
    drawn = np.repeat(np.arange(12), weights)

    assert map50(output, target)(weights) == pytest.approx(coco_ap50(output[drawn], target[drawn]))


def test_a_drop_is_bootstrapped_over_images_in_pairs() -> None:
    reference, target = scene(40, 2.0)
    near, far = reference.copy(), reference.copy()
    near[:, :, :4] += 0.01
    far[:, :, :2] -= 8
    far[:, :, 4] = np.random.default_rng(2).random(far.shape[:2]) * (far[:, :, 4] > 0)
    results = [
        accuracy_result(METRICS["map50"], {"o": arm}, {"o": reference}, target, allowed_drop=0.03, reference_name="f")
        for arm in (near, far)
    ]

    assert results[0].outcome is Outcome.PASS
    assert results[0].drop.high - results[0].drop.low < 0.2 * (results[0].value.high - results[0].value.low)
    assert results[1].outcome is Outcome.FAIL


def test_without_labels_the_float_model_s_certain_boxes_are_true() -> None:
    reference = found((BOX, 0.9, 0), (AWAY, 0.1, 0))
    lost = found((AWAY, 0.9, 0), (AWAY, 0.1, 0))

    assert evaluate(METRICS["map50"], {"o": reference}, reference).value == 1
    assert evaluate(METRICS["map50"], {"o": lost}, reference).value == 0


@pytest.mark.parametrize(
    ("output", "target", "says"),
    [
        pytest.param(np.zeros((2, 85, 20, 20)), np.zeros((2, 3, 5)), "an output of shape", id="raw heads"),
        pytest.param(np.zeros((2, 9, 6)), np.zeros(2), "a target of shape", id="classes as labels"),
        pytest.param(np.zeros((2, 9, 6)), np.full((2, 3, 5), -1.0), "no true box", id="nothing there"),
    ],
)
def test_other_forms_are_refused_with_the_one_that_is_wanted(output: Array, target: Array, says: str) -> None:
    with pytest.raises(SamplesError, match=says):
        evaluate(METRICS["map50"], {"o": output}, target)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)

    with pytest.raises(DependencyError, match=r"pip install 'edgeport\[detection\]'"):
        evaluate(METRICS["map50"], {"o": found((BOX, 0.9, 0))}, true((BOX, 0)))
