"""What may stand in a recipe, as pydantic models; nothing outside this package sees them.

They are the JSON Schema too, so each field has a description. Units stand in the values ("5 ms", "10 MB").
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edgeport.contracts import DistillStep, FineTuning, Preprocessing, PruneStep, QatStep, WithoutDataStep
from edgeport.contracts.recipe import ExportSettings, Search
from edgeport.recipe.evidence import LEAST_ROUNDS

__all__ = ["COMPRESS", "PREPROCESS", "DistillSection", "PruneSection", "QatSection", "RecipeFile"]

PREPROCESS = "inputs.NAME.preprocess"
"""Its keys' section, as `fields_by_section` names it."""

_MOST_ROUNDS = 10_000
"""Each starts two processes or more, so that this is a night at least; what is more is a slip."""
_MOST_THREADS = 1024
_LEAST_DURATION_S = 1e-3
_LONGEST_S = 30 * 24 * 3600.0
_SEEDS = 2**63

_EXPORT = ExportSettings()
_IMAGE = Preprocessing()
_SEARCH = Search()
_PRUNE = PruneStep(amount=0.5)
_LEARN = FineTuning()
_QAT = QatStep()
_DISTIL = DistillStep()
_MADE = WithoutDataStep()


_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Rate = Annotated[float, Field(gt=0, le=10)]

# Of every training, by whatever method.
_Mixed = Annotated[Literal["fp32", "bf16", "fp16"], Field(description="of the forward pass while training")]
_Average = Annotated[
    Annotated[float, Field(gt=0, lt=1)] | None, Field(description="decay of the moving average of the weights")
]
_Patience = Annotated[
    int | None,
    Field(ge=1, description="epochs without better weights after which a training stops; never if missing"),
]
_ClipNorm = Annotated[
    Annotated[float, Field(gt=0, le=1e6)] | None, Field(description="largest norm of the gradient; any if missing")
]
_HeldOut = Annotated[float, Field(gt=0, le=0.5, description="part of the samples that says which weights are best")]
_Seed = Annotated[int, Field(ge=0, lt=_SEEDS, description="of the order of the samples")]
_Device = Annotated[Literal["auto", "cpu", "cuda"], Field(description="that trains")]
_Processes = Annotated[int, Field(ge=1, le=4096, description="of the training, which share each batch: one per GPU")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


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


class ExportSection(_Section):
    """From PyTorch to ONNX."""

    opset: int = Field(default=_EXPORT.opset, ge=18, le=23, description="of the default ONNX domain")
    dynamic_batch: bool = Field(
        default=_EXPORT.dynamic_batch, description="leave the batch axis free; else it is what [inputs] declares, or 1"
    )
    allow_legacy_exporter: bool = Field(
        default=_EXPORT.allow_legacy_exporter, description="try TorchScript where torch.export fails, and say so"
    )


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


PrecisionName = Literal[
    "fp32",
    "bf16",
    "fp16",
    "int8",
    "fp8",
    "int8-dynamic",
    "int8-weights",
    "int4-weights-32",
    "int4-weights-64",
    "int4-weights-128",
    "uint4-weights-32",
    "uint4-weights-64",
    "uint4-weights-128",
    "int16",
]


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


class _LearningSection(_Section):
    """How a step learns from the training samples; its defaults are the step's own."""

    batch_size: int = Field(default=_LEARN.batch_size, ge=1, description="samples per step of a training")
    rate: _Rate | None = Field(default=None, description="learning rate of AdamW at its highest")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="of AdamW")
    loss: str = Field(
        default=_LEARN.loss,
        description="cross-entropy, mse, pkg.mod:fn (outputs by name and labels to a loss []), teacher (no labels), or "
        "auto: by what the labels are",
    )
    teacher: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=0.0, description="weight of the teacher's outputs beside the labels: the original's"
    )
    temperature: float = Field(
        default=_LEARN.temperature, gt=0, le=1000, description="that class scores of both are divided by"
    )
    mixed: _Mixed = "fp32"
    average: _Average = None
    clip_norm: _ClipNorm = None
    patience: _Patience = None
    held_out: _HeldOut = _LEARN.held_out
    seed: _Seed = 0
    device: _Device = "auto"
    processes: _Processes = 1


class PruneSection(_LearningSection):
    """What the model can do without is taken out."""

    method: Literal["prune"] = Field(description="prune, or another method: distill, qat")
    structure: Literal["units", "channels", "neurons", "heads", "weights", "2:4", "4:8", "blocks"] = Field(
        default="units", description="what goes; units are channels, neurons and heads together"
    )
    criterion: str = Field(
        default=_PRUNE.by,
        description="what goes first by: l1, l2, near-zero, batchnorm-scale, zero-activations, entropy, taylor, "
        "fisher, hessian, random",
    )
    target: str | None = Field(
        default=None, description='how far: "macs <= 50 %", or measured on the target: "2x", "p50 <= 5 ms"'
    )
    amount: _Finite | None = Field(
        default=None,
        gt=0,
        description="instead: of units the share of multiplications that goes, of weights the share that becomes zero, "
        "of blocks how many go",
    )
    schedule: str = Field(default=_PRUNE.schedule, description="one-shot, iterative:5 or gradual:10")
    scope: Literal["global", "layer"] = Field(default="global", description="what competes")
    round_to: int = Field(default=_PRUNE.round_to, ge=1, le=4096, description="channels that are left")
    least: float = Field(default=_PRUNE.least, ge=0, lt=1, description="share of each layer that stays")
    samples: int = Field(default=_PRUNE.samples, ge=2, description="training samples that are looked at")
    recalibrate: bool = Field(
        default=_PRUNE.recalibrate, description="BatchNorm's statistics anew over these samples, before any training"
    )
    epochs: int = Field(default=0, ge=0, description="walks over the training samples after the last step")
    epochs_between: int = Field(
        default=_PRUNE.epochs_between, ge=0, description="the same after each of the schedule's other steps"
    )
    fine_tune: str = Field(
        default="", description="pkg.mod:fn instead, called with the module and the step's number after each"
    )
    rate: _Rate | None = Field(default=_LEARN.rate, description="learning rate of AdamW at its highest")
    weight_decay: float = Field(default=_LEARN.weight_decay, ge=0, le=1, description="of AdamW")


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
    L: list[str] = Field(
        default=[], description='task and teacher terms: ["0.1 cross-entropy", "0.9 soft-targets:4"]; by the labels'
    )
    R: list[str] = Field(default=[], description='regularisers: ["confidence"]')
    lambda_: float = Field(default=_DISTIL.lambda_, ge=0, le=1e6, alias="lambda", description="factor of R")
    generations: int = Field(
        default=_DISTIL.generations, ge=1, le=100, description="students, each taught by the one before"
    )
    epochs: int = Field(default=_DISTIL.epochs, ge=1, description="walks over the training samples, of each of them")
    batch_size: int = Field(default=_DISTIL.batch_size, ge=1, description="samples per step")
    optimizer: Literal["adamw", "sgd"] = Field(default=_DISTIL.optimizer, description="sgd has Nesterov's momentum")
    rate: _Rate = Field(default=_DISTIL.rate, description="learning rate at its highest; it falls as a cosine")
    weight_decay: float = Field(default=_DISTIL.weight_decay, ge=0, le=1, description="of the optimizer")
    augment: str = Field(
        default="", description="crop-flip, crop-flip:2 (pixels), or pkg.mod:fn, feeds by name to feeds by name"
    )
    mixed: _Mixed = "fp32"
    average: _Average = None
    clip_norm: _ClipNorm = None
    patience: _Patience = None
    held_out: _HeldOut = _DISTIL.held_out
    seed: _Seed = 0
    device: _Device = "auto"
    processes: _Processes = 1
    without_data: Literal["fast", "contrastive", "dafl"] | None = Field(
        default=None, description="no samples: a generator makes them, by this method"
    )
    steps: int = Field(default=_MADE.steps, ge=1, description="then: of the student")
    values: dict[str, Any] = Field(default={}, description="then: of the method: { inner = 5 }")
    mirror: bool = Field(default=_MADE.mirror, description="then: left and right of an image mean the same")


class QatSection(_LearningSection):
    """Quantization-aware training, with the rounding of each target's own plan; the last step."""

    method: Literal["qat"] = Field(description="qat, or another method: prune, distill")
    precision: Literal[
        "int8",
        "int8-weights",
        "int4-weights-32",
        "int4-weights-64",
        "int4-weights-128",
        "uint4-weights-32",
        "uint4-weights-64",
        "uint4-weights-128",
    ] = Field(default="int8", description="of the plan; one that the targets build")
    epochs: int = Field(default=_QAT.training.epochs, ge=1, description="walks over the training samples")
    learn_ranges: bool = Field(default=_QAT.learn_ranges, description="the ranges of activations are learned too")
    teacher: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="weight of the float model's outputs beside the labels; by precision and loss"
    )
    average: _Average = _QAT.training.average


COMPRESS: dict[str, type[BaseModel]] = {"prune": PruneSection, "distill": DistillSection, "qat": QatSection}
"""Method of a [[compress]] to its keys."""


class SearchSection(_Section):
    """How much is measured."""

    # Its least value is checked in build.py, which can say why.
    rounds: int = Field(
        default=_SEARCH.rounds,
        le=_MOST_ROUNDS,
        json_schema_extra={"minimum": LEAST_ROUNDS},
        description=f"fresh process pairs that confirm the winner; with fewer than {LEAST_ROUNDS} no gain is certain. "
        "Where the first challenger fails, a second gets at least 8, a third at least 10",
    )
    screening_rounds: int = Field(
        default=_SEARCH.screening_rounds,
        ge=1,
        le=_MOST_ROUNDS,
        description="fresh processes per candidate before that: they say who is confirmed, and nothing ships on them "
        f"alone; with fewer than {LEAST_ROUNDS} no candidate is certainly slower, so more floats are confirmed too",
    )
    duration_s: float = Field(
        default=_SEARCH.duration_s, ge=_LEAST_DURATION_S, le=600, description="seconds of timed calls a process"
    )
    warmup_s: float = Field(default=_SEARCH.warmup_s, ge=0, le=600, description="seconds of calls before them")
    cool_down_s: float = Field(
        default=_SEARCH.cool_down_s,
        ge=0,
        le=3600,
        description="seconds of rest before each process, at most: until the device is as cool as before the first one",
    )
    seed: int = Field(default=_SEARCH.seed, ge=0, lt=_SEEDS, description="of the random order")
    calibration_method: str = Field(
        default=_SEARCH.calibration_method,
        description="ranges: auto, average, entropy, global, global:-6:6, measured, minmax, mse, percentile:99.99 "
        "or pow2",
    )
    recovery: list[str] = Field(
        default=list(_SEARCH.recovery),
        description="brings accuracy back to static int8, each off by default: "
        "equalization, smoothing, rounding, bias-correction",
    )
    time_limit_s: float = Field(
        default=_SEARCH.time_limit_s,
        ge=0.1,
        le=_LONGEST_S,
        allow_inf_nan=False,
        description="seconds that one step in a child process may take: an export, the compilation of one candidate",
    )
    memory_limit: str = Field(
        default=f"{_SEARCH.memory_limit_bytes >> 30} GiB", description="memory that a child process may hold"
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
        return {
            name: tuple(field.alias or key for key, field in section.model_fields.items())
            for name, section in sections.items()
        }
