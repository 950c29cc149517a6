"""A trained PyTorch module from where the user says it is. Nothing is ever downloaded."""

from __future__ import annotations

import difflib
import importlib
import importlib.machinery
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from edgeport.contracts import ModelSource
from edgeport.errors import DependencyError, EdgeportError, SourceError
from edgeport.exporter.explain import user_line
from edgeport.exporter.loaders.hugging_face import find_checkpoint, load_hugging_face
from edgeport.exporter.loaders.pt2 import load_pt2
from edgeport.exporter.loaders.ultralytics_models import load_ultralytics
from edgeport.exporter.loaders.weights import load_weights

if TYPE_CHECKING:
    import torch

__all__ = ["load_module", "notes_on_source"]

_SUPPORTED = "pkg.mod:factory, a .pt2 file, torchvision:NAME, timm:NAME, hf:FOLDER or ultralytics:FILE"

_PLACES = "beside the recipe (for a command: in the current folder), then among installed packages and PYTHONPATH"

_SEED = 0


def load_module(source: ModelSource) -> torch.nn.Module:
    """Builds the module, puts its weights in, and sets it to evaluation mode.

    Code of the user runs here: call it in a child (`edgeport.exporter.worker`). PyTorch's, numpy's and Python's random
    generators are seeded while it is built, so that random weights are the same each time, and left as they were.
    What DataParallel or torch.compile wrapped is taken out.

    Args:
        source: `pkg.mod:factory` (a class or function, called with `source.arguments`), a `.pt2` file, or
            `torchvision:NAME` and `timm:NAME`, which have random weights unless `source.weights` names a file; `hf:`
            with a folder or a name in the local cache, `ultralytics:` with a file.

    Raises:
        SourceError: It can't be found, imported or built, or the weights do not fit.
        UnsafeFileError: A file that would run code.
        DependencyError: torchvision or timm is not installed.

    """
    import torch

    module = _build(source)
    if not isinstance(module, torch.nn.Module):
        raise SourceError(
            asked=f"load {source.location}",
            found=f"a {type(module).__name__} instead of a torch.nn.Module",
            fix="let the factory return the module itself",
        )
    module = _unwrapped(module)
    if source.weights is not None:
        load_weights(module, source.weights)
    if source.location.endswith(".pt2"):
        return module  # Exported programs are fixed in the mode they were exported in, and refuse eval().
    return module.eval()


def notes_on_source(source: ModelSource) -> tuple[str, ...]:
    """What a reader must know of where the model came from, one sentence each."""
    if source.weights is not None or not _is_random(source):
        return ()
    note = (
        f"The weights are random: {source.location} names an architecture, and no weights were given. Its outputs mean "
        "nothing; give --weights (weights in a recipe) before you ship it."
    )
    return (note,)


def _is_random(source: ModelSource) -> bool:
    scheme, _, name = source.location.partition(":")
    if scheme in _ZOOS:
        return not source.arguments.get("checkpoint_path")  # timm loads that one itself
    if scheme == "hf":
        return not find_checkpoint(name, str(source.arguments.get("revision", "main"))).weights
    return scheme == "ultralytics" and not name.endswith(".pt")


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    import torch

    while True:
        if isinstance(module, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(inner := getattr(module, "_orig_mod", None), torch.nn.Module):  # torch.compile
            module = inner
        else:
            return module


def _build(source: ModelSource) -> object:
    location = source.location
    scheme, _, name = location.partition(":")
    if location.endswith(".pt2"):
        return load_pt2(Path(location))
    if scheme in _ZOOS and name:
        return _ZOOS[scheme](name, source.arguments)
    if location.endswith(".onnx"):
        raise SourceError(
            asked=f"load {location} as a PyTorch model",
            found="an ONNX file, which is exported already",
            fix="hand it to calibrate or quantize",
        )
    if scheme == "hf" and name:
        with _seeded():
            return load_hugging_face(name, source.arguments)
    if scheme == "ultralytics" and name:
        with _seeded():
            return load_ultralytics(name, source.allow_pickle_sha256)
    if not name:
        raise SourceError(asked=f"load {location}", found="no such form of a location", fix=f"give {_SUPPORTED}")
    with _importable(source.search_path):
        with _seeded():  # Modules may build a model while they are imported.
            factory = _find(source, scheme, name)
        return _call(factory, location, source.arguments)


def _find(source: ModelSource, module_name: str, attribute: str) -> Callable[..., object]:
    module = _import(source, module_name)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            close = difflib.get_close_matches(part, [name for name in dir(found) if not name.startswith("_")], n=3)
            raise SourceError(
                asked=f"load {source.location}",
                found=f"no {part!r} in {module_name}",
                fix=f"did you mean {' or '.join(repr(name) for name in close)}?"
                if close
                else f"name a class or function of {_file_of(module)}",
                details={"close": close},
            )
        found = getattr(found, part)
    if not callable(found):
        raise SourceError(
            asked=f"load {source.location}",
            found=f"a {type(found).__name__}, which can't be called",
            fix="name a class, or a function that returns the module",
        )
    return found  # type: ignore[no-any-return]


def _import(source: ModelSource, name: str) -> ModuleType:
    asked = f"load {source.location}"
    if name.endswith(".py") or "/" in name:
        file = Path(name)
        inside = not file.is_absolute() and ".." not in file.parts
        module_name = ".".join(file.with_suffix("").parts) if inside else file.stem
        raise SourceError(
            asked=asked,
            found="a file where a module's name is wanted",
            fix=f"write {module_name}:{source.location.rpartition(':')[2]}; a module is looked for {_PLACES}",
        )
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise _not_found(source, error.name) from error
        raise _failed(asked, f"importing {name}", error) from error
    except Exception as error:
        raise _failed(asked, f"importing {name}", error) from error
    _refuse_namesake(source, name, module)
    return module


def _not_found(source: ModelSource, name: str) -> SourceError:
    """No module of that dotted name; modules of nearly that name in the user's folder are offered."""
    folder = source.search_path
    *parents, last = name.split(".")
    package = folder.joinpath(*parents) if folder is not None else None
    there = list(package.iterdir()) if package is not None and package.is_dir() else []
    names = {path.stem for path in there if path.suffix == ".py" or any(path.glob("*.py"))}
    near = difflib.get_close_matches(last, sorted(one for one in names if one.isidentifier()), n=3)
    if not near and not parents:
        near = difflib.get_close_matches(last.lower(), (*_ZOOS, "hf", "ultralytics"), n=1, cutoff=0.7)
    close = [".".join((*parents, one)) for one in near]
    return SourceError(
        asked=f"load {source.location}",
        found=f"no module {name!r}" + (f" in {folder}, and none that is installed" if folder else " that is installed"),
        fix=f"did you mean {' or '.join(repr(one) for one in close)}?"
        if close
        else f"correct the name, or put the module where it is looked for: {_PLACES}",
        details={"close": close},
    )


def _refuse_namesake(source: ModelSource, name: str, module: ModuleType) -> None:
    """A module of that name that was imported before from elsewhere would be used silently."""
    if source.search_path is None:
        return
    top = name.partition(".")[0]
    spec = importlib.machinery.PathFinder.find_spec(top, [str(source.search_path)])
    origin = getattr(sys.modules.get(top), "__file__", None)
    if spec is not None and spec.origin and origin and Path(spec.origin).resolve() != Path(origin).resolve():
        raise SourceError(
            asked=f"load {source.location} from {source.search_path}",
            found=f"that another module {top!r} is in use already, from {origin}",
            fix="rename one of them, or load the model in a process of its own",
        )
    del module


def _call(factory: Callable[..., object], location: str, arguments: Mapping[str, object]) -> object:
    asked = f"build {location}" + (f" with {dict(arguments)}" if arguments else "")
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        signature = None
    if signature is not None:
        try:
            signature.bind(**arguments)
        except TypeError as error:
            names = [name for name in signature.parameters if name not in ("args", "kwargs")]
            raise SourceError(
                asked=asked, found=str(error), fix=f"its arguments are {', '.join(names) or 'none'}"
            ) from error
    try:
        with _seeded():
            return factory(**arguments)
    except EdgeportError:
        raise
    except Exception as error:
        raise _failed(asked, "building it", error) from error


@contextmanager
def _seeded() -> Iterator[None]:
    """Random weights are the same in every process, or no export could be compared with its model later on.

    The caller's generators go on as if nothing had been drawn.
    """
    import random

    import numpy as np
    import torch

    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 (what older factories draw from)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        random.seed(_SEED)
        np.random.seed(_SEED)  # noqa: NPY002 (the same)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002 (the same)


def _failed(asked: str, doing: str, error: BaseException) -> SourceError:
    line = user_line(error)
    where = f" at {line}" if line else ""
    return SourceError(
        asked=asked,
        found=f"that {doing} raised {type(error).__name__}{where}: {error}",
        fix="correct that; the model must build in plain Python first",
        details={"file": line.file, "line": line.line, "code": line.code} if line else None,
    )


def _file_of(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or module.__name__


@contextmanager
def _importable(folder: Path | None) -> Iterator[None]:
    if folder is None:
        yield
        return
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if entry in sys.path:
            sys.path.remove(entry)


def _torchvision(name: str, arguments: Mapping[str, object]) -> object:
    try:
        from torchvision import models
    except ImportError as error:
        raise _missing("torchvision") from error
    _check_name("torchvision", name, models.list_models())
    _refuse_download("torchvision", name, arguments)
    builder = models.get_model_builder(name)
    parameters = inspect.signature(builder).parameters
    # Detection and segmentation models would fetch the weights of their backbone by default.
    offline = {key: None for key in ("weights", "weights_backbone") if key in parameters}
    quick = {"init_weights": False} if name in ("googlenet", "inception_v3") and "init_weights" not in arguments else {}
    return _call(builder, f"torchvision:{name}", {**arguments, **offline, **quick})


def _timm(name: str, arguments: Mapping[str, object]) -> object:
    try:
        import timm
    except ImportError as error:
        raise _missing("timm") from error
    _check_name("timm", name.partition(".")[0], timm.list_models())
    _refuse_download("timm", name, arguments)
    return _call(timm.create_model, f"timm:{name}", {"model_name": name, **arguments, "pretrained": False})


_ZOOS: dict[str, Callable[[str, Mapping[str, object]], object]] = {"torchvision": _torchvision, "timm": _timm}


def _check_name(zoo: str, name: str, known: list[str]) -> None:
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=3)
    raise SourceError(
        asked=f"load {zoo}:{name}",
        found=f"no such model among the {len(known)} of this {zoo}",
        fix=f"did you mean {' or '.join(close)}?" if close else f"see {zoo}'s own list of models",
        details={"close": close},
    )


def _refuse_download(zoo: str, name: str, arguments: Mapping[str, object]) -> None:
    for key in ("pretrained", "weights", "weights_backbone"):
        if arguments.get(key):
            raise SourceError(
                asked=f"load {zoo}:{name} with {key}={arguments[key]!r}",
                found="weights that would come from the network",
                fix="download them yourself and give the file as the source's weights",
            )


def _missing(package: str) -> DependencyError:
    return DependencyError(
        asked=f"load a model of {package}", found=f"{package} is not installed", fix=f"pip install {package}"
    )
