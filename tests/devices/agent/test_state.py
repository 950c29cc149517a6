"""What the measuring program does with state and with samples of several shapes."""

from types import SimpleNamespace

import numpy as np
import pytest

from edgeport.devices.agent import session_setup
from edgeport.devices.agent.arrays import SHAPE, batch_of, largest_difference, load_arrays, save_arrays
from edgeport.devices.agent.evaluate import run_evaluate_job
from edgeport.devices.agent.failure import JobError
from edgeport.devices.agent.timing import run_time_job


class Sum:
    """Adds what it is fed to what it held."""

    def __init__(self, feeds):
        self.feeds = feeds

    def run(self):
        held = self.feeds.get("held", np.zeros((1, 1), np.float32))
        self.total = held + self.feeds["x"].sum(axis=1, keepdims=True)

    def outputs(self):
        held = {"next": self.total} if "held" in self.feeds else {}
        return {"y": self.total.copy(), "each": self.feeds["x"] * 2, **held}


@pytest.fixture
def job(tmp_path, monkeypatch):
    session = SimpleNamespace(bind=Sum, close=lambda: None)
    module = SimpleNamespace(open_session=lambda path, settings: session)
    monkeypatch.setattr(session_setup, "load_session_module", lambda name: module)
    (tmp_path / "artifact").mkdir()
    (tmp_path / "artifact" / "model").write_text("a model")

    def make(feeds, **more):
        save_arrays(tmp_path / "feeds.npz", feeds)
        return {
            "artifact": str(tmp_path / "artifact"),
            "entry": "model",
            "session": "sum",
            "settings": {},
            "feeds": str(tmp_path / "feeds.npz"),
            "outputs": str(tmp_path / "outputs.npz"),
            "batch": 1,
            "state": {},
            "starts": (),
            **more,
        }

    return make


def steps(count=5):
    return {"x": np.ones((count, 2), np.float32), "held": np.full((1, 1), 10, np.float32)}


def test_steps_are_run_with_the_state_that_was_left(job):
    asked = job(steps(), state={"next": "held"}, starts=(0, 3))

    run_evaluate_job(asked)

    found = load_arrays(asked["outputs"])
    assert sorted(found) == ["each", "y"]
    assert found["y"][:, 0].tolist() == [12, 14, 16, 12, 14]


def test_the_last_step_is_timed_with_the_state_before_it(job, tmp_path):
    asked = job(steps(4), state={"next": "held"})
    reference = {"y": np.array([[12], [14], [16], [18], [20]], np.float32)}
    save_arrays(tmp_path / "reference.npz", reference)
    timing = {
        "reference": str(tmp_path / "reference.npz"),
        "reference_row": 3,
        "warmup_s": 0.001,
        "duration_s": 0.001,
        "minimum_calls": 2,
        "maximum_calls": 100,
        "calls_per_reading": 1,
        "scenario": "single-stream",
        "streams": 1,
        "idle_s": 0,
        "output_tolerance": 1e-6,
        "round": 0,
        "position": 0,
    }

    found = run_time_job({**asked, **timing})

    assert found["outputs_match"], found["output_difference"]
    assert not {"unstable-output", "output-shape"} & set(found["flags"])
    assert not run_time_job({**asked, **timing, "reference_row": 2})["outputs_match"]


def ragged():
    x = np.ones((3, 4), np.float32)
    x[1, 2:] = 0  # padding
    return {"x": x, f"x{SHAPE}": np.array([[4], [2], [4]])}


def test_padding_is_never_fed_and_outputs_know_their_shapes(job):
    asked = job(ragged())

    run_evaluate_job(asked)

    found = load_arrays(asked["outputs"])
    assert found["y"][:, 0].tolist() == [4, 2, 4]
    assert found[f"each{SHAPE}"].tolist() == [[4], [2], [4]]
    assert f"y{SHAPE}" not in found


def test_samples_of_several_shapes_do_not_share_a_call():
    assert batch_of(ragged(), 1, 1)["x"].shape == (1, 2)
    with pytest.raises(JobError, match="shapes"):
        batch_of(ragged(), 0, 2)


def test_a_timed_call_is_compared_with_its_own_sample():
    reference = {"each": np.ones((3, 4)), f"each{SHAPE}": np.array([[4], [2], [4]])}

    assert largest_difference({"each": np.ones((1, 2))}, reference, 1) == (0.0, [])
    assert largest_difference({"each": np.ones((1, 2))}, reference, 0)[1]
