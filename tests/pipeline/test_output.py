"""What an earlier run left must not be taken for this run's answer."""

import pytest

from edgeport.errors import SamplesError
from edgeport.pipeline import run_recipe
from edgeport.pipeline.output import prepare_output


def test_an_earlier_answer_is_gone_before_anything_can_fail(make_recipe, tmp_path, monkeypatch):
    out = tmp_path / "out"
    (out / "bundle").mkdir(parents=True)
    for name in ("result.json", "report.html", "notes.txt", "bundle/manifest.json"):
        (out / name).write_text("{}")
    monkeypatch.setattr("edgeport.bundle.load_bundle", lambda folder: None)

    def fail(context):
        raise SamplesError(asked="", found="damaged samples", fix="")

    monkeypatch.setattr("edgeport.pipeline.run.prepare_samples", fail)
    with pytest.raises(SamplesError, match="damaged samples"):
        run_recipe(make_recipe("base"), output=out, store=tmp_path / "store")
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_what_is_no_bundle_of_ours_stays(tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "thesis.txt").write_text("mine")
    (tmp_path / "elsewhere.json").write_text("mine")
    (tmp_path / "result.json").symlink_to(tmp_path / "elsewhere.json")
    prepare_output(tmp_path)
    assert (tmp_path / "bundle" / "thesis.txt").read_text() == "mine"
    assert (tmp_path / "elsewhere.json").read_text() == "mine"
