"""Models of Hugging Face transformers, from a folder or the local cache; never from the network.

What is read of a checkpoint: its JSON files and `*.safetensors`. No code that comes with it is run
(`trust_remote_code` stays off), and weights that are pickles are refused by name.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeport.errors import DependencyError, SourceError, UnsafeFileError
from edgeport.exporter.explain import user_line
from edgeport.exporter.silence import quiet

if TYPE_CHECKING:
    import torch

__all__ = ["TASKS", "Checkpoint", "find_checkpoint", "load_hugging_face"]

TASKS = {
    "audio-classification": "AutoModelForAudioClassification",
    "automatic-speech-recognition": "AutoModelForCTC",
    "depth-estimation": "AutoModelForDepthEstimation",
    "feature-extraction": "AutoModel",
    "fill-mask": "AutoModelForMaskedLM",
    "image-classification": "AutoModelForImageClassification",
    "image-segmentation": "AutoModelForSemanticSegmentation",
    "masked-image-modeling": "AutoModelForMaskedImageModeling",
    "multiple-choice": "AutoModelForMultipleChoice",
    "next-sentence-prediction": "AutoModelForNextSentencePrediction",
    "object-detection": "AutoModelForObjectDetection",
    "question-answering": "AutoModelForQuestionAnswering",
    "text-classification": "AutoModelForSequenceClassification",
    "text-generation": "AutoModelForCausalLM",
    "token-classification": "AutoModelForTokenClassification",
    "video-classification": "AutoModelForVideoClassification",
    "zero-shot-image-classification": "AutoModelForZeroShotImageClassification",
}
"""Task, as the hub names it, to the class of transformers that has its head."""

_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.pkl")
_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model's files.

    Attributes:
        folder: That holds `config.json`.
        weights: Its `.safetensors` files; empty where only the architecture is there.

    """

    folder: Path
    weights: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that loading may read."""
        return (*sorted(self.folder.glob("*.json")), *self.weights)


def find_checkpoint(name: str, revision: str = "main") -> Checkpoint:
    """The files of a folder, or of a name that lies in the local cache of huggingface_hub.

    The cache is read by its documented layout, so that nothing is imported and nothing can be fetched.

    Args:
        name: A folder, or "org/name".
        revision: Branch, tag or commit, of a name.

    Raises:
        SourceError: Not there, or without `config.json`.
        UnsafeFileError: All its weights are pickles.

    """
    folder = Path(name) if Path(name).is_dir() else _cached(name, revision)
    asked = f"load hf:{name}"
    if not (folder / "config.json").is_file():
        adapter = (folder / "adapter_config.json").is_file()
        raise SourceError(
            asked=asked,
            found=f"an adapter without its model in {folder}" if adapter else f"no config.json in {folder}",
            fix="merge it into its model first (merge_and_unload of peft), and save that"
            if adapter
            else "give a folder that save_pretrained of transformers wrote",
        )
    weights = tuple(sorted(folder.glob("*.safetensors")))
    if not weights:
        _refuse_pickles(asked, folder)
    return Checkpoint(folder=folder, weights=weights)


def _cached(name: str, revision: str) -> Path:
    asked = f"load hf:{name}"
    if not _NAME.fullmatch(name) or name.startswith("."):
        raise SourceError(
            asked=asked, found="no such folder", fix="give a folder with config.json, or a name such as org/model"
        )
    model = _cache() / f"models--{name.replace('/', '--')}"
    reference = model / "refs" / revision
    commit = reference.read_text(encoding="utf-8").strip() if reference.is_file() else revision
    folder = model / "snapshots" / commit
    if not folder.is_dir():
        raise SourceError(
            asked=asked + (f" at {revision}" if revision != "main" else ""),
            found=f"neither such a folder nor that model in the local cache ({_cache()})",
            fix=f'download it first, with "hf download {name}"; nothing is fetched here',
        )
    return folder


def _cache() -> Path:
    """Where huggingface_hub keeps models: its documented variables, then its default."""
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(variable):
            return Path(os.environ[variable])
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
    return Path(home).expanduser() / "hub"


def _refuse_pickles(asked: str, folder: Path) -> None:
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        raise UnsafeFileError(
            asked=asked,
            found=f"no safetensors, only {', '.join(pickles[:_SHOWN])}, which can run code when it is read",
            fix="save the model once where you trust it: model.save_pretrained(folder, safe_serialization=True)",
        )


def load_hugging_face(name: str, arguments: Mapping[str, object]) -> torch.nn.Module:
    """Builds the model; with the folder's weights if it has any, else with random ones.

    Attention is computed by plain matrix products ("eager"), which every runtime has kernels for, and no cache of
    keys and values is kept between calls.

    Args:
        name: As in `find_checkpoint`.
        arguments: `task` (see `TASKS`; else the class that the config names), `revision`; the others replace values
            of the config.

    Raises:
        SourceError: Not there, no such task or class, or it can't be built.
        UnsafeFileError: Weights that are pickles.
        DependencyError: transformers is not installed.

    """
    asked = f"load hf:{name}"
    overrides = dict(arguments)
    task, revision = overrides.pop("task", None), str(overrides.pop("revision", "main"))
    checkpoint = find_checkpoint(name, revision)
    transformers = _transformers(asked)
    try:
        with quiet():
            config = transformers.AutoConfig.from_pretrained(
                checkpoint.folder, local_files_only=True, trust_remote_code=False, **overrides
            )
            kind = _class(transformers, asked, config, task)
            return _built(kind, checkpoint, config)
    except (SourceError, UnsafeFileError):
        raise
    except ImportError as error:
        raise DependencyError(asked=asked, found=str(error).strip()[:300], fix="install what it names") from error
    except Exception as error:
        line = user_line(error)
        raise SourceError(
            asked=asked,
            found=f"that transformers raised {type(error).__name__}{f' at {line}' if line else ''}: "
            f"{str(error).strip()[:300]}",
            fix="load it with transformers alone first; code that comes with a checkpoint is not run here, so give "
            "such a model by a factory of yours",
        ) from error


def _transformers(asked: str) -> Any:
    os.environ.setdefault(
        "HF_HUB_OFFLINE", "1"
    )  # read when huggingface_hub is imported: even a mistake fetches nothing
    try:
        import transformers
    except ImportError as error:
        raise DependencyError(
            asked=asked, found="transformers is not installed", fix='pip install "edgeport[hf]"'
        ) from error
    return transformers


def _class(transformers: Any, asked: str, config: Any, task: object) -> Any:
    if task is not None:
        if task not in TASKS:
            near = difflib.get_close_matches(str(task), TASKS, n=1)
            raise SourceError(
                asked=f"{asked} with task = {task!r}",
                found=f"none of {', '.join(TASKS)}",
                fix=f"did you mean {near[0]!r}?" if near else "use one of them, or leave it out",
            )
        return getattr(transformers, TASKS[str(task)])
    named = (getattr(config, "architectures", None) or ["AutoModel"])[0]
    kind = getattr(transformers, str(named), None)
    if kind is None or not hasattr(kind, "from_pretrained"):
        raise SourceError(
            asked=asked,
            found=f"the architecture {named!r}, which transformers {transformers.__version__} has not",
            fix=f'choose a head: arguments = {{ task = "..." }}, one of {", ".join(TASKS)}',
        )
    return kind


def _built(kind: Any, checkpoint: Checkpoint, config: Any) -> torch.nn.Module:
    # Caches are objects, not tensors; nothing here generates token after token.
    for part in (config, *(getattr(config, name, None) for name in ("text_config", "decoder"))):
        if hasattr(part, "use_cache"):
            part.use_cache = False
    if not checkpoint.weights:
        build = getattr(kind, "from_config", None) or kind._from_config  # noqa: SLF001 (what AutoModel.from_config calls)
        module: torch.nn.Module = build(config, attn_implementation="eager")
        return module.float()
    module, loading = kind.from_pretrained(
        checkpoint.folder,
        config=config,
        attn_implementation="eager",
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    missing = sorted(loading["missing_keys"])
    if missing:
        raise SourceError(
            asked=f"load hf:{checkpoint.folder.name} as {type(module).__name__}",
            found=f"no weights for {', '.join(missing[:_SHOWN])}"
            + (f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""),
            fix=f"take the head that it was trained with: {_trained_as(checkpoint.folder)}",
        )
    return module.float()


def _trained_as(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    names = ", ".join(config.get("architectures") or ())
    return f"{names} (leave task out)" if names else 'arguments = { task = "feature-extraction" }'
