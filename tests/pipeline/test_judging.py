"""How outputs are judged: the user's mistakes are one error, early; what a candidate does wrong is its own row."""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from edgeport.contracts import DeviceFacts, Limits, Outcome, Precision, to_jsonable
from edgeport.devices.local import LocalDevice
from edgeport.errors import EdgeportError, SamplesError, SourceError, WrongOutput
from edgeport.npz import save_npz
from edgeport.onnx_files import open_onnx
from edgeport.pipeline.compilation.compile import build_candidates
from edgeport.pipeline.compilation.probe import probe
from edgeport.pipeline.datasets.prepare import PreparedSamples, prepare_samples
from edgeport.pipeline.engine.context import RunContext
from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.evaluation.evaluate import Reference, require_judgeable, validate_candidates
from edgeport.pipeline.evaluation.worker import JudgeRequest, _parts, judge
from edgeport.pipeline.source_model.prepare import prepare_model
from edgeport.store import Store

FACTS = DeviceFacts(name="local", machine="x86_64", cpu="A CPU", cores=2, memory_bytes=1 << 30)
N = 40


@pytest.fixture(autouse=True)
def _same_code(monkeypatch):
    """Though somebody may edit the code while these tests run."""
    monkeypatch.setattr("edgeport.store.code_version", lambda: "1")


@pytest.fixture
def context_for(tmp_path):
    """Makes the context of another run on the same store."""

    def make(recipe):
        scratch = tmp_path / "scratch"
        scratch.mkdir(exist_ok=True)
        return RunContext(
            recipe=recipe,
            store=Store(tmp_path / "store"),
            device=LocalDevice(tmp_path / "device"),
            facts=FACTS,
            clock=Clock(lambda _: None),
            scratch=scratch,
            limits=Limits(time_s=60, memory_bytes=4 << 30),
        )

    return make


@pytest.fixture
def judged_by(make_recipe, context_for, tmp_path):
    """A context whose metric is the user's function `right` of this code, samples with these labels, a reference."""

    def make(code="", metric="own_metric:right", target=None):
        (tmp_path / "own_metric.py").write_text("import numpy as np\n" + code)
        recipe = make_recipe("base")
        recipe = replace(
            recipe,
            data=replace(recipe.data, metric=metric),
            source=replace(recipe.source, search_path=tmp_path),
        )
        scores = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)
        save_npz(tmp_path / "reference.npz", {"scores": scores})
        np.save(tmp_path / "target.npy", np.arange(N) % 4 if target is None else target)
        samples = PreparedSamples(
            feeds=tmp_path / "none.npz", unfolded=tmp_path, target=tmp_path / "target.npy", example=tmp_path,
            single=tmp_path, count=N, fingerprint="", calibration_fingerprint="", calibration_count=0, warnings=(),
        )  # fmt: skip
        return context_for(recipe), samples, Reference(outputs=tmp_path / "reference.npz", name="PyTorch float32")

    return make


DECODE = """
def decode(outputs):
    return np.stack([outputs["scores"], outputs["other"]], axis=2).max(axis=2)
"""


@pytest.fixture
def decoded(tmp_path):
    """Judges two outputs [N, 4] by what a function makes of them, in `code`."""

    def judged(code, name="decode", metric="top1", everywhere=None, **changed):
        (tmp_path / "own_decode.py").write_text("import numpy as np\n" + code)
        random = np.random.default_rng(0)
        scores, other = (random.standard_normal((N, 4)).astype(np.float32) for _ in range(2))
        reference = {"scores": scores, "other": other, **(everywhere or {})}
        save_npz(tmp_path / "reference.npz", reference)
        save_npz(tmp_path / "outputs.npz", {**reference, **changed})
        labels = np.maximum(scores, other).argmax(axis=1) if metric == "top1" else np.ones(N)
        np.save(tmp_path / "target.npy", labels)
        payload = {
            "outputs": tmp_path / "outputs.npz", "reference": tmp_path / "reference.npz", "metric": metric,
            "output": "", "decode": f"own_decode:{name}", "search_path": tmp_path, "allowed_drop": 0.2,
            "target": tmp_path / "target.npy", "reference_name": "float",
        }  # fmt: skip
        try:
            return to_jsonable(judge(JudgeRequest(**payload), tmp_path))
        finally:
            sys.modules.pop("own_decode", None)

    return judged


def test_what_is_judged_is_what_the_decoder_makes_of_all_outputs(decoded):
    found = decoded(DECODE)

    assert (found["outcome"], found["value"]["estimate"]) == ("pass", 1)
    assert decoded(DECODE, other=np.zeros((N, 4), np.float32))["value"]["estimate"] < 1


def test_outputs_that_the_decoder_hides_are_looked_at_too(decoded):
    broken = np.full((N, 4), np.nan, np.float32)
    found = decoded("def decode(outputs):\n    return outputs['scores']\n", other=broken)

    assert found["outcome"] == "invalid"
    assert "output 'other' holds NaN" in found["reason"]


def test_a_decoder_sees_samples_of_several_shapes_without_padding(decoded):
    lengths = np.repeat([[2], [3]], N // 2, axis=0)
    steps = np.arange(3) < lengths  # [N, 3]: what is beyond a length is padding
    ragged = {"steps": steps.astype(np.float32), "steps#shape": lengths}
    code = "def decode(outputs):\n    assert sorted(outputs) == ['other', 'scores', 'steps']\n"
    found = decoded(f"{code}    return outputs['steps'].min(axis=1)", metric="mae", everywhere=ragged)

    assert (found["outcome"], found["value"]["estimate"]) == ("pass", 0)


@pytest.mark.parametrize(
    ("code", "name", "says"),
    [
        pytest.param("", "decode", "no attribute 'decode'", id="not there"),
        pytest.param("decode = 3\n", "decode", "found a int", id="no function"),
        pytest.param("def decode(outputs):\n    1 / 0\n", "decode", "ZeroDivisionError.*line 3", id="raises"),
        pytest.param("def decode(outputs):\n    return np.zeros((3, 6))\n", "decode", "for 40 samples", id="too few"),
        pytest.param("def decode(outputs):\n    return outputs\n", "decode", "dtype object", id="a mapping"),
    ],
)
def test_a_decoder_that_is_wrong_is_an_error_about_it(decoded, code, name, says):
    with pytest.raises(SourceError, match=says) as caught:
        decoded(code, name)
    assert "decode" in caught.value.asked


@dataclass(frozen=True, kw_only=True)
class Mistake:
    id: str
    says: str
    code: str = ""
    metric: str = "own_metric:right"
    target: object = None
    error: type = SourceError


MISTAKES = [
    Mistake(
        id="raises",
        code="def right(o, t):\n    return deeper(o)\ndef deeper(o):\n    return o['scores']\n",
        says=r"IndexError: .* \(own_metric.py, line 5, in deeper: return o\['scores'\]; own_metric.py, line 3, in "
        r"right.*it is given an output of shape \[40, 4\]",
    ),
    Mistake(
        id="NaN", code="def right(o, t):\n    return float('nan')\n", says="returned nan; return finite numbers, for"
    ),
    Mistake(
        id="NaN for a sample",
        code="def right(o, t):\n    s = np.ones(len(o))\n    s[7] = np.nan\n    return s\n",
        says="nan for sample 7; return finite numbers for all samples",
    ),
    Mistake(id="too few", code="def right(o, t):\n    return np.ones(3)\n", says=r"shape \[3\] for 40 samples"),
    Mistake(id="no number", code="def right(o, t):\n    return 'good'\n", says="a str, which is no number"),
    Mistake(id="nothing", code="def right(o, t):\n    pass\n", says="a NoneType, which is no number|returned nan"),
    Mistake(id="does not import", code="import nowhere_at_all\n", says="No module named 'nowhere_at_all'"),
    Mistake(id="ends the process", code="raise SystemExit(3)\n", says="SystemExit", error=EdgeportError),
    Mistake(id="labels out of range", metric="top1", target=np.full(N, 4), says="0 to 3", error=SamplesError),
    Mistake(id="soft labels", metric="top1", target=np.full((N, 4), 0.25), says="one class index per sample",
            error=SamplesError),
    Mistake(id="too few labels", metric="top1", target=np.zeros(3, int), says="one target per sample",
            error=SamplesError),
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.id)
def test_a_mistake_in_metric_or_labels_is_one_error_before_any_candidate(judged_by, tmp_path, mistake):
    context, samples, reference = judged_by(mistake.code, mistake.metric, mistake.target)
    with pytest.raises(mistake.error, match=mistake.says):
        require_judgeable(context, samples, reference)
    assert not list((tmp_path / "store").glob("judge/*.json"))


def test_a_reference_with_nan_is_an_error_before_any_candidate(judged_by, tmp_path):
    context, samples, reference = judged_by("def right(o, t):\n    return np.ones(len(o))\n")
    save_npz(tmp_path / "reference.npz", {"scores": np.full((N, 4), np.nan, np.float32)})
    with pytest.raises(WrongOutput, match="NaN in its output for sample 0"):
        require_judgeable(context, samples, reference)


def test_the_mistake_ends_the_preparation(make_recipe, context_for, tmp_path):
    (tmp_path / "bad_metric.py").write_text("def right(o, t):\n    return o.nothing\n")
    recipe = make_recipe("base")
    recipe = replace(
        recipe,
        data=replace(recipe.data, metric="bad_metric:right"),
        source=replace(recipe.source, search_path=tmp_path),
    )
    context = context_for(recipe)
    samples = prepare_samples(context)
    with pytest.raises(SourceError, match=r"in right: return o\.nothing"):
        prepare_model(context, samples)


def test_a_judgement_is_stored_until_the_users_metric_changes(judged_by, tmp_path):
    counting = "    open(__file__ + '.calls', 'a').write('x')\n"
    code = f"def right(o, t):\n{counting}    return np.ones(len(o))\n"
    context, samples, reference = judged_by(code)
    calls = tmp_path / "own_metric.py.calls"
    require_judgeable(context, samples, reference)
    first = len(calls.read_text())
    assert first
    require_judgeable(context, samples, reference)
    assert len(calls.read_text()) == first
    (tmp_path / "own_metric.py").write_text("import numpy as np\n" + code + "# other\n")
    require_judgeable(context, samples, reference)
    assert len(calls.read_text()) == 2 * first


def judged(tmp_path, ours, its, **options):
    save_npz(tmp_path / "ours.npz", ours)
    save_npz(tmp_path / "its.npz", its)
    payload = {
        "outputs": tmp_path / "ours.npz",
        "reference": tmp_path / "its.npz",
        "target": None,
        "metric": "cosine",
        "output": "",
        "decode": "",
        "search_path": None,
        "allowed_drop": 0.1,
        "reference_name": "float",
        **options,
    }
    return to_jsonable(judge(JudgeRequest(**payload), tmp_path))


def outputs(**others):
    values = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)
    return {"scores": values, "boxes": values * 3, "ids": np.arange(N), **others}


def with_value(array, value, sample=7):
    array = array.copy()
    array[sample, 1] = value
    return array


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_second_output_that_is_broken_is_invalid(tmp_path, value):
    its = outputs()
    accuracy = judged(tmp_path, {**its, "boxes": with_value(its["boxes"], value)}, its)
    assert accuracy["outcome"] == Outcome.INVALID
    assert accuracy["reason"] == "output 'boxes' holds NaN or Inf for 1 of 40 samples, first for sample 7"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_the_reference_has_too_is_no_fault(tmp_path, value):
    its = outputs()
    its["boxes"] = with_value(its["boxes"], value)
    accuracy = judged(tmp_path, its, its)
    assert accuracy["outcome"] == Outcome.PASS
    assert accuracy["details"]["sqnr_db:boxes"] == 150


def test_an_output_that_is_missing_is_invalid(tmp_path):
    its = outputs()
    accuracy = judged(tmp_path, {"scores": its["scores"]}, its)
    assert (accuracy["outcome"], accuracy["reason"]) == (Outcome.INVALID, "there is no output 'boxes'")


def test_closeness_of_further_outputs_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeport.pipeline.evaluation.worker._ROWS_BYTES", 96)
    its = outputs()
    accuracy = judged(tmp_path, {**its, "boxes": its["boxes"] * 1.01}, its)
    assert len(list(_parts(its["boxes"], its["boxes"]))) == 14, "3 samples of 32 bytes at a time"
    assert accuracy["details"]["sqnr_db:boxes"] == pytest.approx(40, abs=0.01)
    assert "sqnr_db:ids" not in accuracy["details"]
    assert "sqnr_db:scores" not in accuracy["details"]


@pytest.fixture
def validated(make_recipe, context_for):
    """Validates the float candidate of a planted backend on a device."""

    def validate(spoil):
        recipe = make_recipe("base", precisions=(Precision.FP32,))
        context = context_for(recipe)
        context = replace(context, device=Spoiled(context.device, spoil))
        samples = prepare_samples(context)
        prepared = prepare_model(context, samples)
        built = build_candidates(
            context, open_onnx(Path(recipe.source.location)), {"planted:base": probe("planted:base", context)}, None, ""
        )
        (row,) = validate_candidates(context, built, samples, prepared.reference)
        return row

    return validate


class Spoiled:
    """A device that changes what it tells of a job."""

    def __init__(self, device, spoil):
        self._device, self._spoil = device, spoil

    def __getattr__(self, name):
        return getattr(self._device, name)

    def run(self, job):
        return self._spoil(self._device.run(job), job)


def test_another_artifact_than_was_built_is_refused_and_not_stored(validated, tmp_path):
    row = validated(lambda trace, job: replace(trace, artifact_digest="0" * 64))
    assert row.candidate.refusal.code == "DEVICE_FAILED"
    assert "artifact 000000000000 was run" in row.candidate.refusal.reason
    assert row.outputs is None
    assert not list((tmp_path / "store").glob("evaluate/*.json"))
    good = validated(lambda trace, job: trace)
    assert good.candidate.refusal is None
    (entry,) = (tmp_path / "store" / "evaluate").glob("*.json")
    assert list(json.loads(entry.read_bytes())["files"]) == ["outputs.npz"]


def test_a_broken_second_output_refuses_the_candidate(validated):
    def spoil(trace, job):
        with np.load(job.outputs) as file:
            arrays = dict(file)
        save_npz(Path(job.outputs), {"scores": arrays["scores"] * np.nan})
        return trace

    row = validated(spoil)
    assert row.candidate.outcome is Outcome.INVALID
    assert row.candidate.refusal.code == "WRONG_OUTPUT"


def test_outputs_are_never_loaded_in_the_parent(validated, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("judged in this process")

    monkeypatch.setattr("edgeport.accuracy.compare.accuracy_result", refuse)
    monkeypatch.setattr("edgeport.pipeline.evaluation.worker.judge", refuse)
    assert validated(lambda trace, job: trace).candidate.accuracy.outcome is Outcome.PASS
