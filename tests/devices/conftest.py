from __future__ import annotations

import numpy as np
import pytest

from edgeport.contracts import Limits, TimeJob
from edgeport.devices.agent.arrays import save_arrays
from edgeport.devices.local import LocalDevice


@pytest.fixture(scope="session")
def device(tmp_path_factory):
    return LocalDevice(tmp_path_factory.mktemp("device"))


@pytest.fixture(scope="session")
def artifact(tmp_path_factory):
    """An artifact's folder, feeds of 10 samples, and the outputs that the fake session gives for them."""
    root = tmp_path_factory.mktemp("artifact")
    (root / "model").mkdir()
    (root / "model" / "m.txt").write_text("a model")
    samples = np.arange(30, dtype=np.float32).reshape(10, 3)
    save_arrays(root / "feeds.npz", {"x": samples})
    save_arrays(root / "reference.npz", {"x_out": 2 * samples})
    return root


@pytest.fixture
def time_job(artifact):
    def make(settings=None, **changes):
        values = {
            "artifact": str(artifact / "model"),
            "entry": "m.txt",
            "session": "edgeport.testing.fake_session",
            "settings": {"busy_ns": 100_000} if settings is None else settings,
            "feeds": str(artifact / "feeds.npz"),
            "reference": str(artifact / "reference.npz"),
            "warmup_s": 0.01,
            "duration_s": 0.05,
            "limits": Limits(time_s=30),
        }
        return TimeJob(**(values | changes))

    return make


@pytest.fixture
def job_on(artifact, time_job):
    """A job for a device at the other end of a link, by settings of the fake session."""

    def make(device, **settings):
        there = {name: device.push(artifact / file) for name, file in (("artifact", "model"), ("feeds", "feeds.npz"))}
        return time_job(settings, **there, reference=None, duration_s=0.3, limits=Limits(time_s=60))

    return make
