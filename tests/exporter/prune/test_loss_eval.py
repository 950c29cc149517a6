"""What is lost by fewer units is told of copies; the module stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from edgeport.exporter.prune.importance.criteria import Magnitude
from edgeport.exporter.prune.loss_eval import losses_of
from edgeport.exporter.prune.pruning import look
from edgeport.exporter.prune.samples import JUDGED, Samples


@pytest.mark.parametrize("labelled", [True, False])
def test_nothing_gone_loses_least(labelled: bool) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)
    ).eval()
    feeds = {"x": np.random.default_rng(0).standard_normal((40, 3, 8, 8)).astype(np.float32)}
    with torch.no_grad():
        answers = module(torch.from_numpy(feeds["x"]))
    samples = Samples(feeds=feeds, target=answers.argmax(1).numpy() if labelled else None)
    group_specs = look(module, Magnitude(), samples).group_specs
    name = group_specs[0].name
    before = {key: value.clone() for key, value in module.state_dict().items()}

    several = [{}, {name: 4}, {name: 12}]
    whole, some, most = losses_of(module, samples, group_specs, several, judged_by=samples, recalibrated=False)

    assert whole < most
    assert some < most
    if labelled:
        assert whole == pytest.approx(float(nn.functional.cross_entropy(answers, answers.argmax(1))), rel=1e-5)
    else:
        assert whole == 0
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    anew = losses_of(module, samples, group_specs, several, judged_by=samples, recalibrated=True)
    assert anew != [whole, some, most]
    if not labelled:
        for value in module[-1].parameters():
            value.data *= 10
        assert losses_of(module, samples, group_specs, several, judged_by=samples, recalibrated=False) == pytest.approx(
            [whole, some, most]
        )


def test_labels_that_no_loss_takes_leave_the_outputs() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))
    random = np.random.default_rng(0)
    feeds = {"x": random.standard_normal((8, 3, 8, 8)).astype(np.float32)}
    boxes = Samples(feeds=feeds, target=random.standard_normal((8, 4)).astype(np.float32))
    group_specs = look(module.eval(), Magnitude(), boxes).group_specs
    several = [{}, {group_specs[0].name: 8}]

    found, expected = (
        losses_of(module, samples, group_specs, several, judged_by=samples, recalibrated=False)
        for samples in (boxes, Samples(feeds=feeds))
    )

    assert found == expected
    assert found[0] == 0 < found[1]


def test_losses_are_of_samples_that_nothing_was_scored_by() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)
    ).eval()
    random = np.random.default_rng(0)
    every = Samples(feeds={"x": random.standard_normal((50, 3, 8, 8)).astype(np.float32)}, target=np.arange(50) % 5)
    scored, unseen = every.first(10), every.unseen(10)
    group_specs = look(module, Magnitude(), scored).group_specs

    (loss,) = losses_of(module, scored, group_specs, [{}], judged_by=unseen, recalibrated=False)

    assert unseen.count == JUDGED * 10
    np.testing.assert_array_equal(unseen.feeds["x"], every.feeds["x"][10:30])
    with torch.no_grad():
        scores = module(torch.from_numpy(every.feeds["x"][10:30]))
    assert loss == pytest.approx(float(nn.functional.cross_entropy(scores, torch.arange(10, 30) % 5)), rel=1e-5)
    assert every.first(12).unseen(10).count == 2
    assert scored.unseen(10).count == scored.unseen(256).count == 10
