"""Models of transformers: from a folder, with safetensors or random weights, and never from elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the exporter needs the torch extra")

from edgeport.contracts import ModelSource, OpenModel, Outcome  # noqa: E402 (after the skip)
from edgeport.errors import SourceError, UnsafeFileError  # noqa: E402
from edgeport.exporter.dynamic_shape_check import at_other_sizes  # noqa: E402
from edgeport.exporter.input_binding import reference_outputs  # noqa: E402
from edgeport.exporter.loaders.hugging_face import find_checkpoint  # noqa: E402
from edgeport.exporter.loaders.model_source import load_module, notes_on_source  # noqa: E402
from edgeport.exporter.onnx_export import export_onnx  # noqa: E402
from edgeport.exporter.options import ExportOptions  # noqa: E402
from edgeport.exporter.silence import quiet  # noqa: E402
from edgeport.exporter.verify import verify  # noqa: E402

CONFIG = """{
  "model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 60, "hidden_size": 16,
  "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 32
}"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "config.json").write_text(CONFIG, encoding="utf-8")
    return folder


def source(folder: Path, **arguments: object) -> ModelSource:
    return ModelSource(location=f"hf:{folder}", arguments=arguments)


class TestFiles:
    def test_a_name_in_the_cache_is_found_without_importing_anything(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        model = tmp_path / "models--org--net"
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text("abc123")
        snapshot = model / "snapshots" / "abc123"
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text(CONFIG)
        (snapshot / "model.safetensors").write_bytes(b"")

        found = find_checkpoint("org/net")

        assert found.folder == snapshot
        assert [file.name for file in found.files] == ["config.json", "model.safetensors"]

    def test_a_name_that_is_not_there_says_how_to_download_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))

        with pytest.raises(SourceError, match=r'"hf download org/net"; nothing is fetched here'):
            find_checkpoint("org/net")

    def test_a_path_out_of_the_cache_is_no_name(self) -> None:
        with pytest.raises(SourceError, match="no such folder"):
            find_checkpoint("../../net")

    def test_pickles_alone_are_refused_by_name(self, config: Path) -> None:
        (config / "pytorch_model.bin").write_bytes(b"never read")

        with pytest.raises(UnsafeFileError, match=r"only pytorch_model\.bin, which can run code"):
            find_checkpoint(str(config))

    def test_an_empty_folder_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match=r"no config\.json"):
            find_checkpoint(str(tmp_path))


@pytest.fixture(scope="module")
def transformers():
    with quiet():
        return pytest.importorskip("transformers", reason="the extra hf")


@pytest.mark.usefixtures("transformers")
class TestModels:
    def test_a_config_alone_has_random_weights_which_are_the_same_each_time(self, config: Path) -> None:
        first, second = load_module(source(config)), load_module(source(config))

        assert type(first).__name__ == "BertForMaskedLM"
        assert not first.training
        assert torch.equal(first.cls.predictions.bias, second.cls.predictions.bias)
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
        assert notes_on_source(source(config))[0].startswith("The weights are random")

    def test_a_task_chooses_the_head_and_other_arguments_the_config(self, config: Path) -> None:
        module = load_module(source(config, task="text-classification", num_labels=5))

        assert type(module).__name__ == "BertForSequenceClassification"
        assert module.classifier.out_features == 5

    def test_an_unknown_task_is_answered_with_the_nearest(self, config: Path) -> None:
        with pytest.raises(SourceError, match="did you mean 'text-classification'"):
            load_module(source(config, task="text-clasification"))

    def test_saved_weights_come_back(self, config: Path, tmp_path: Path) -> None:
        saved = load_module(source(config))
        with torch.no_grad():
            saved.cls.predictions.bias.fill_(3.0)
        with quiet():
            saved.save_pretrained(tmp_path / "saved")

        module = load_module(source(tmp_path / "saved"))

        assert torch.equal(module.cls.predictions.bias, saved.cls.predictions.bias)
        assert not notes_on_source(source(tmp_path / "saved"))

    def test_a_head_without_weights_is_refused(self, config: Path, tmp_path: Path) -> None:
        with quiet():
            load_module(source(config)).save_pretrained(tmp_path / "saved")

        with pytest.raises(SourceError, match=r"no weights for .*classifier.*BertForMaskedLM"):
            load_module(source(tmp_path / "saved", task="text-classification"))

    def test_code_that_comes_with_a_checkpoint_does_not_run(self, config: Path) -> None:
        (config / "config.json").write_text(
            '{"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModel": "own.Net"}}'
        )
        (config / "own.py").write_text(f"open({str(config / 'ran')!r}, 'w')\n")

        with pytest.raises(SourceError, match="not run here"):
            load_module(source(config))
        assert not (config / "ran").exists()

    def test_it_exports_with_a_free_batch(self, config: Path, tmp_path: Path) -> None:
        module = load_module(source(config, task="text-classification"))
        tokens = np.random.default_rng(0).integers(0, 60, (2, 8))
        feeds = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}

        result = export_onnx(module, feeds, output=tmp_path / "m.onnx")

        assert [spec.shape for spec in result.model.inputs] == [("batch", 8)] * 2
        assert [(spec.name, spec.shape) for spec in result.model.outputs] == [("logits", ("batch", 2))]

    @pytest.mark.slow
    def test_a_length_is_free_up_to_the_table_of_positions(
        self, config: Path, tmp_path: Path, open_model: OpenModel
    ) -> None:
        module = load_module(source(config, task="text-classification"))
        tokens = np.random.default_rng(0).integers(0, 60, (3, 8))
        feeds = {"input_ids": tokens, "attention_mask": np.ones_like(tokens), "token_type_ids": tokens % 2}
        options = ExportOptions(dynamic_axes={name: {1: "length"} for name in feeds}, axis_ranges={"length": (1, 32)})

        result = export_onnx(module, feeds, output=tmp_path / "m.onnx", options=options)

        assert {spec.name: spec.shape for spec in result.model.inputs} == dict.fromkeys(feeds, ("batch", "length"))
        assert [(spec.name, spec.shape) for spec in result.model.outputs] == [("logits", ("batch", 2))]
        sizes = list(at_other_sizes(module, feeds, options))
        checked = verify(reference_outputs(module, feeds, 3), feeds, result.model.path, open_model, sizes=sizes)
        assert (checked.outcome, checked.sizes) == (Outcome.PASS, {"length": (1, 32)})
