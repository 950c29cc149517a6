"""What may stand in a recipe, as pydantic models; nothing outside this package sees them.

They are the JSON Schema too, so each field has a description: where a key is an option of a command
too, or a setting of a contract, it is declared there. Units stand in the values ("5 ms", "10 MB").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, create_model

from edgeport.contracts import Precision, Preprocessing
from edgeport.contracts.recipe import ExportSettings, Search
from edgeport.options.declare import Declaration, declarations
from edgeport.options.distill import METHODS, DistillOptions, WithoutDataSettings
from edgeport.options.prune import PruneOptions
from edgeport.options.qat import QatOptions

__all__ = ["COMPRESS", "PREPROCESS", "DistillSection", "PruneSection", "QatSection", "RecipeFile"]

PREPROCESS = "inputs.NAME.preprocess"
"""Its keys' section, as `fields_by_section` names it."""

_MOST_THREADS = 1024

_IMAGE = Preprocessing()

if TYPE_CHECKING:
    PrecisionName = str
    MethodName = str
else:
    PrecisionName = Literal[tuple(str(one) for one in Precision)]
    MethodName = Literal[METHODS]
_Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


T = TypeVar("T", bound=BaseModel)


def _with_options(options: tuple[type[Any], ...], keys: str, nullable: str = "") -> Callable[[type[T]], type[T]]:
    """Adds keys that are declared as options to those that a section has itself.

    Args:
        options: Dataclasses whose fields declare them.
        keys: All keys of the section, in their order, separated by spaces.
        nullable: Those of the options that may be null in the schema.

    """
    declared = {
        declaration.option.key or name: declaration
        for one in options
        for name, declaration in declarations(one).items()
    }

    def decorate(section: type[T]) -> type[T]:
        own = section.model_fields
        fields: dict[str, Any] = {
            key: (own[key].annotation, own[key])
            if key in own
            else _field(declared[key], nullable=key in nullable.split())
            for key in keys.split()
        }
        made = create_model(section.__name__, __base__=_Section, __doc__=section.__doc__, **fields)
        return cast("type[T]", made)

    return decorate


def _field(declared: Declaration, *, nullable: bool) -> tuple[Any, Any]:
    """Annotation and field of pydantic."""
    kind, default, option = declared.kind, declared.default, declared.option
    if option.choices:
        kind = Literal[option.choices]
    elif get_origin(kind) is tuple:
        kind, default = list[get_args(kind)[0]], list(default)  # type: ignore[misc]
    elif get_origin(kind) is Mapping:
        kind = dict[str, Any]
    bounds = {"gt": option.above, "ge": option.least, "lt": option.below, "le": option.most}
    given = {name: bound for name, bound in bounds.items() if bound is not None} | dict(option.within)
    if declared.optional or nullable:
        return Annotated[kind, Field(**given)] | None, Field(default=default, description=option.recipe)
    return kind, Field(default=default, description=option.recipe, **given)


class ModelSection(_Section):
    """The trained model."""

    source: str = Field(
        description="pkg.mod:factory, a .pt2 or .onnx file, torchvision:NAME, timm:NAME, hf:FOLDER or hf:NAME, "
        "ultralytics:FILE"
    )
    arguments: dict[str, Any] = Field(default={}, description="keyword arguments of the factory")
    weights: str | None = Field(default=None, description=".safetensors, or a checkpoint that loads without code")
    allow_pickle_sha256: str | None = Field(
        default=None, description="digest of the ultralytics checkpoint that may run code when it is read"
    )
    name: str | None = Field(default=None, description="as tables and the bundle show it; from the source if missing")
    licence: str = Field(
        default="", description='of the model, an SPDX expression: "Apache-2.0"; the bundle carries it'
    )
    author: str = Field(default="", description="who made the model; the bundle carries it")
    url: str = Field(default="", description="where the model is from; the bundle carries it")
    version: str = Field(default="", description="of the model; the bundle carries it")


class PreprocessSection(_Section):
    """From raw images (or what a function takes) to the input."""

    resize: int | Annotated[list[int], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="pixels of the shorter side, which keeps the proportions; or [height, width]"
    )
    crop: int | Annotated[list[int], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="the middle, after resize: [height, width], or one number for a square"
    )
    scale: float | str = Field(default=_IMAGE.scale, description='multiplied first; a number or "1/255"')
    mean: float | list[float] = Field(default=[], description="subtracted after scale; a number, or one per channel")
    std: float | list[float] = Field(default=[], description="divided by after mean; a number, or one per channel")
    layout: Literal["NCHW", "NHWC"] = Field(default="NCHW", description="of the model's input")
    color: Literal["RGB", "BGR"] = Field(default="RGB", description="of the model's input; raw images are RGB")
    interpolation: Literal["bilinear", "bicubic", "nearest"] = Field(
        default="bilinear", description="of resize, as Pillow does it"
    )
    fold: bool | str = Field(
        default=False,
        description="scale, mean, std and layout become part of the graph, which takes uint8: true or NHWC, or NCHW",
    )
    raw: str = Field(default="", description="the raw array's name in the samples; the input's own if missing")
    function: str | None = Field(
        default=None, description="pkg.mod:fn in place of the keys above: raw items to arrays (a tokenizer)"
    )
    ship: bool = Field(default=False, description="the function's module goes into the bundle, for run.py")


class InputSection(_Section):
    """One input of the model."""

    shape: list[int | str] | None = Field(
        default=None,
        description='sizes; a name makes an axis free: ["batch", 3, 224, 224]; a number as axis 0 fixes the batch',
    )
    dtype: str = Field(default="float32", description="numpy's name of it")
    range: Annotated[list[_Finite], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="smallest and largest value that occurs"
    )
    value: bool | int | float | str | list[Any] | None = Field(
        default=None, description="the input is not fed: this value is written into the graph"
    )
    initial: float | None = Field(default=None, description="of a state: what fills it where a sequence begins; 0")
    preprocess: PreprocessSection | None = Field(default=None, description="how raw samples become this input")


class AxisSection(_Section):
    """One free axis, which the shape of an input names."""

    range: Annotated[list[Annotated[int, Field(le=2**31 - 1)]], Field(min_length=2, max_length=2)] = Field(
        description="smallest and largest size; the export is verified at both"
    )
    timed: int | None = Field(
        default=None, description="the sample whose size is nearest to it is timed; the one of median size if missing"
    )


class DataSection(_Section):
    """Samples and the metric."""

    calibration: str | None = Field(
        default=None,
        description="a folder of images or .wav files (or of class folders), .npz, .npy, .csv, pkg.mod:fn, or, "
        "without data, 'range' or 'synthetic'; needed for int8",
    )
    evaluation: str = Field(description="the same; shares no sample with the calibration samples")
    training: str | None = Field(
        default=None,
        description="the same, to learn from (qat, [[compress]]); shares no sample with the evaluation samples; the "
        "calibration samples if missing",
    )
    preprocessed: bool = Field(
        default=False, description="the samples went through [inputs.NAME.preprocess] already; else they are raw"
    )
    columns: dict[str, str | list[str]] = Field(
        default={}, description="of a .csv: input to its column, or to the columns that make a vector"
    )
    sample_rate: int | None = Field(default=None, ge=1, description="Hz, that .wav files must have")
    target: str = Field(default="", description="key of the labels in the .npz, or their column in the .csv")
    metric: str | None = Field(
        default=None, description="a metric's name or pkg.mod:fn; top1 with labels, else agreement with the float model"
    )
    output: str = Field(default="", description="the output that is judged; the first one if missing")
    decode: str = Field(
        default="", description="pkg.mod:fn, from all outputs by name to the array that is judged, such as boxes"
    )
    labels: list[str] | str = Field(default=[], description="class names, or a text file with one per line")
    sequence: int | str = Field(
        default="",
        description="for models with a state: key of an array that changes where a sequence begins, or samples in each",
    )
    lengths: dict[str, str] = Field(
        default={}, description="free axis to the key of an array with its size in each sample; the rest is padding"
    )


@_with_options((ExportSettings,), "opset dynamic_batch allow_legacy_exporter")
class ExportSection(_Section):
    """From PyTorch to ONNX."""


class BudgetSection(_Section):
    """What the result must keep to."""

    accuracy_drop: float | None = Field(
        default=None, description="largest loss against the float model, absolute, in the metric's unit; 0.01"
    )
    latency: str | None = Field(default=None, description='at most: "p50 <= 5 ms"')
    throughput: str | None = Field(default=None, description='at least, with every core at work: "200/s"')
    peak_memory: str | None = Field(default=None, description='at most: "500 MB"')
    size: str | None = Field(default=None, description='at most: "10 MB"')
    first_inference: str | None = Field(default=None, description='at most: "200 ms"')


class TargetSection(_Section):
    """One runtime on one device."""

    name: str | None = Field(
        default=None, description="targets of one name compete for one bundle in a folder of that name; all or none"
    )
    backend: str = Field(description="onnxruntime, openvino, tensorrt, or module:factory")
    precisions: list[PrecisionName] = Field(
        default=["fp32", "bf16", "int8", "int8-dynamic"], min_length=1, description="what is built and measured"
    )
    rest: Literal["fp32", "bf16", "fp16"] = Field(
        default="fp32", description="what is not integer in its integer candidates runs in this"
    )
    nodes: dict[str, PrecisionName] = Field(
        default={},
        description="[target.nodes]: a node, a pattern (*), a PyTorch module or an operator type to a precision of its "
        "own in integer candidates; of several that fit a node the last one counts",
    )
    tune: str | None = Field(
        default=None,
        description='time for a search of the nodes that int8 had better leave in `rest`: "5m"; its plan is one more '
        "candidate",
    )
    threads: int | None = Field(
        default=None, ge=1, le=_MOST_THREADS, description="inside one call; the runtime's default if missing"
    )
    streams: int | None = Field(
        default=None, ge=1, le=_MOST_THREADS, description="calls that run at once, with `threads` threads each; 1"
    )
    stages: int | None = Field(
        default=None,
        ge=2,
        description="cut into so many, each at work on another call (ONNX Runtime); not with `streams`",
    )
    spinning: bool | None = Field(
        default=None, description="idle threads spin: faster calls, busier processors (ONNX Runtime); its default"
    )
    affinity: list[int] | None = Field(
        default=None, min_length=1, description="logical processors that it may use; all of them if missing"
    )
    huge_pages: bool = Field(
        default=False,
        description="memory is moved into huge pages before the second call, where the system has them (Linux 6.1)",
    )
    runtime_device: str | None = Field(
        default=None,
        min_length=1,
        description='where the runtime computes, in its words: "CUDA", "GPU", "HETERO:GPU,CPU"; the CPU if missing',
    )
    require_placement: str | None = Field(
        default=None, description='part of the planned nodes that must run as planned, else it is refused: "95%"'
    )
    device: str | None = Field(
        default=None, description="where it runs, of `edgeport devices list`; this machine, or `--device`, if missing"
    )
    devices: list[str] | None = Field(
        default=None, min_length=1, description="several devices instead; each has candidates and a bundle of its own"
    )
    budget: BudgetSection | None = Field(
        default=None, description="[target.budget]: limits of this name alone, each in place of the one in [budget]"
    )


_TRAINING = (
    "batch_size rate weight_decay loss teacher temperature mixed average clip_norm patience held_out seed device "
    "processes"
)


@_with_options(
    (PruneOptions,),
    f"{_TRAINING} method structure criterion target amount schedule scope round_to least samples recalibrate epochs "
    "epochs_between fine_tune",
    nullable="rate teacher",
)
class PruneSection(_Section):
    """What the model can do without is taken out."""

    method: Literal["prune"] = Field(description="prune, or another method: distill, qat")
    target: str | None = Field(
        default=None, description='how far: "macs <= 50 %", or measured on the target: "2x", "p50 <= 5 ms"'
    )


@_with_options(
    (DistillOptions, WithoutDataSettings),
    "method student student_weights student_arguments scale target L R lambda generations epochs batch_size optimizer "
    "rate weight_decay augment mixed average clip_norm patience held_out seed device processes without_data steps "
    "values mirror",
)
class DistillSection(_Section):
    """A student learns from the model as the recipe names it: min E[L] + lambda E[R]."""

    method: Literal["distill"] = Field(description="distill, or another method: prune, qat")
    student: str | None = Field(
        default=None, description="who learns: pkg.mod:factory; what the steps before left, if missing"
    )
    student_weights: str | None = Field(default=None, description="that it begins with; random ones if missing")
    student_arguments: dict[str, Any] = Field(default={}, description="keyword arguments of the student's factory")
    scale: Annotated[dict[str, Annotated[list[_Finite], Field(min_length=1)]], Field(max_length=1)] = Field(
        default={},
        description="argument of the factory, the model's own if no student is given, to values of which the largest "
        "one that meets the target is taken: { width = [8, 16, 32] }",
    )
    target: str | None = Field(
        default=None, description='with scale: "4x" the speed of the model as it is, or "p50 <= 5 ms", measured'
    )
    without_data: MethodName | None = Field(
        default=None, description="no samples: a generator makes them, by this method"
    )


@_with_options((QatOptions,), f"{_TRAINING} method precision epochs learn_ranges")
class QatSection(_Section):
    """Quantization-aware training, with the rounding of each target's own plan; the last step."""

    method: Literal["qat"] = Field(description="qat, or another method: prune, distill")


COMPRESS: dict[str, type[BaseModel]] = {"prune": PruneSection, "distill": DistillSection, "qat": QatSection}
"""Method of a [[compress]] to its keys."""


@_with_options(
    (Search,),
    "rounds screening_rounds duration_s warmup_s cool_down_s seed calibration_method recovery time_limit_s "
    "memory_limit",
)
class SearchSection(_Section):
    """How much is measured."""

    memory_limit: str = Field(
        default=f"{Search().memory_limit_bytes >> 30} GiB", description="memory that a child process may hold"
    )


class RecipeFile(_Section):
    """A whole recipe."""

    model: ModelSection
    inputs: dict[str, InputSection] = Field(default={}, description="declared inputs, by name")
    axes: dict[str, AxisSection] = Field(default={}, description="ranges of free axes, by name")
    state: dict[str, str] = Field(default={}, description="output to the input that it feeds on the next call")
    data: DataSection
    export: ExportSection = Field(default_factory=ExportSection)
    compress: list[Annotated[PruneSection | DistillSection | QatSection, Field(discriminator="method")]] = Field(
        default=[], description="what is done to the PyTorch model, in this order"
    )
    target: list[TargetSection] = Field(
        default_factory=lambda: [TargetSection(backend="onnxruntime")], min_length=1, description="onnxruntime"
    )
    budget: BudgetSection = Field(default_factory=BudgetSection)
    search: SearchSection = Field(default_factory=SearchSection)

    @classmethod
    def fields_by_section(cls) -> dict[str, tuple[str, ...]]:
        """Section name to its keys; the empty name has the sections themselves."""
        sections: dict[str, type[BaseModel]] = {
            "": cls,
            "model": ModelSection,
            "axes": AxisSection,
            "inputs": InputSection,
            PREPROCESS: PreprocessSection,
            "data": DataSection,
            "export": ExportSection,
            "target": TargetSection,
            "budget": BudgetSection,
            "target.budget": BudgetSection,
            "search": SearchSection,
            **{f"compress.{method}": section for method, section in COMPRESS.items()},
        }
        return {name: tuple(section.model_fields) for name, section in sections.items()}
