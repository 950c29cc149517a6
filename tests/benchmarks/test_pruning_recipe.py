"""A recipe with steps on a network that people know: ResNet-20 of CIFAR-10, pruned for a speed, and trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness import missing
from benchmarks.pruning.__main__ import RESNET20
from edgeport import api

RECIPE = """
model.source = "benchmarks.harness.networks:resnet20"

[data]
training = "training.npz"
calibration = "calibration.npz"
evaluation = "evaluation.npz"
target = "label"

[[compress]]
method = "prune"
criterion = "taylor"
target = "1.4x"
recalibrate = true
epochs = 3
teacher = 0.5

[[compress]]
method = "qat"
epochs = 1

[[target]]
backend = "onnxruntime"
precisions = ["fp32", "int8"]
threads = 1

[budget]
accuracy_drop = 0.05

[search]
rounds = 6
duration_s = 0.1
"""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.skipif(bool(missing(RESNET20)), reason="EDGEPORT_ZOO does not name CIFAR-10 and its ResNet-20")
def test_resnet20_is_pruned_for_a_speed_and_trained_with_rounding(tmp_path: Path) -> None:
    from benchmarks.harness.cifar import drawn, judged

    parts = {"training": drawn(20_000, 0), "calibration": drawn(256, 1), "evaluation": judged("dev", 1000)}
    for name, part in parts.items():
        np.savez(tmp_path / f"{name}.npz", images=part.scaled("resnet20").images, label=part.labels)
    (tmp_path / "resnet20.toml").write_text(RECIPE, encoding="utf-8")

    result = api.run(tmp_path / "resnet20.toml", output=tmp_path / "out", store=tmp_path / "store")

    original, pruned, trained = result.compression
    assert [original.problem, pruned.problem, trained.problem] == ["", "", ""]
    assert pruned.verification is not None
    first = result.candidate(original.candidate)
    for row in (pruned, trained):
        shown = result.candidate(row.candidate)
        assert shown.accuracy is not None
        assert first.accuracy is not None
        assert shown.accuracy.value.estimate > first.accuracy.value.estimate - 0.06
        assert shown.artifact is not None
        assert first.artifact is not None
        assert shown.artifact.size_bytes < first.artifact.size_bytes
        assert row.against is not None
        assert row.against.speedup.estimate > 1.1
    chosen = result.candidate(result.chosen)
    assert chosen.name == result.best_float or (
        chosen.against_float is not None and chosen.against_float.speedup.low > 1.01
    )
