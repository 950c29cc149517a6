"""[[compress]]: steps, their goals, orders that make no sense, and what can't be compressed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edgeport.contracts import (
    DistillStep,
    FineTuning,
    ModelSource,
    Precision,
    PruneStep,
    QatStep,
    Scale,
    StudentStep,
    WithoutDataStep,
)
from edgeport.errors import RecipeError, UsageError
from edgeport.recipe import explain, load_recipe, schema
from edgeport.recipe.goals import read_goal

RECIPE = """\
[model]
source = "net:create"

[data]
calibration = "calibration.npz"
evaluation = "evaluation.npz"

[[target]]
backend = "onnxruntime"
precisions = ["fp32", "int8"]

"""
PRUNE = '[[compress]]\nmethod = "prune"\n'
QAT = '[[compress]]\nmethod = "qat"\n'
DISTILL = '[[compress]]\nmethod = "distill"\n'
SMALL = DISTILL + 'student = "net:small"\n'
SCALED = DISTILL + "scale = { width = [8, 16] }\n"
IMAGE = '[inputs.image]\nshape = ["batch", 3, 8, 8]\nrange = [0, 1]\n'
ZEROS = PRUNE + 'structure = "weights"\namount = 0.5\n'
HALF = PRUNE + 'target = "macs <= 50 %"\n'


def test_steps_come_in_the_order_given_and_are_explained(write: Callable[[str], Path]) -> None:
    path = write(
        RECIPE
        + PRUNE
        + 'criterion = "taylor"\ntarget = "2x"\nprocesses = 2\nepochs = 4\nteacher = 0.5\nseed = 3\n'
        + PRUNE
        + 'structure = "blocks"\namount = 1\n'
        + QAT
        + "epochs = 2\npatience = 1\n"
    )
    recipe = load_recipe(path)

    assert recipe.compress == (
        PruneStep(by="taylor", speedup=2.0, training=FineTuning(epochs=4, teacher=0.5, seed=3, processes=2)),
        PruneStep(what="blocks", amount=1.0),
        QatStep(
            training=FineTuning(epochs=2, rate=2e-5, weight_decay=0.0, teacher=1.0, average=0.99, patience=1),
        ),
    )
    assert [step.said for step in recipe.compress] == [
        "prune units by taylor to 2x the speed, then 4 epochs",
        "prune blocks (1)",
        "train with the rounding of int8, 2 epochs",
    ]
    explained = explain(recipe)
    assert "epochs_between = 1" in explained
    assert load_recipe(write(explained)) == recipe


def test_a_student_is_what_is_left_a_given_one_or_a_scaled_one(write: Callable[[str], Path], folder: Path) -> None:
    (folder / "small.safetensors").write_bytes(b"")
    learning = (
        'L = ["0.5 cross-entropy", "0.5 soft-targets:2"]\nR = ["confidence"]\nlambda = 0.01\nepochs = 9\nrate = 0.05\n'
        'optimizer = "sgd"\naugment = "crop-flip"\nclip_norm = 2.0\nseed = 3\nprocesses = 4\n'
    )
    of_it = DistillStep(
        L=("0.5 cross-entropy", "0.5 soft-targets:2"),
        R=("confidence",),
        lambda_=0.01,
        epochs=9,
        rate=0.05,
        optimizer="sgd",
        augment="crop-flip",
        clip_norm=2.0,
        seed=3,
        processes=4,
    )
    small = ModelSource(
        location="net:small", arguments={"depth": 2}, weights=folder / "small.safetensors", search_path=folder
    )
    own = ModelSource(location="net:create", arguments={"depth": 4}, search_path=folder)
    cases = {
        HALF + DISTILL + learning + QAT: StudentStep(learning=of_it),
        SMALL + 'student_weights = "small.safetensors"\nstudent_arguments = { depth = 2 }\n': StudentStep(
            student=small
        ),
        SCALED + 'target = "4x"\nstudent_arguments = { depth = 4 }\n': StudentStep(
            student=own, scale=Scale(argument="width", values=(8, 16)), speedup=4.0
        ),
        IMAGE + SMALL.replace("small", "create") + 'without_data = "fast"\nvalues = { inner = 5 }\nsteps = 100\n': (
            StudentStep(
                student=ModelSource(location="net:create", search_path=folder),
                learning=WithoutDataStep(values={"inner": 5}, steps=100),
            )
        ),
    }
    for text, step in cases.items():
        recipe = load_recipe(write(RECIPE + text))
        assert next(one for one in recipe.compress if isinstance(one, StudentStep)) == step
        assert load_recipe(write(explain(recipe))) == recipe
    assert [step.said for step in cases.values()] == [
        "distil into what is left, 9 epochs",
        "distil into net:small, 30 epochs",
        "distil into net:create with a width for 4x the speed, 30 epochs",
        "distil into net:create, 100 steps without data (fast)",
    ]


def test_a_rate_suits_the_bits(write: Callable[[str], Path]) -> None:
    text = RECIPE.replace('"int8"]', '"int4-weights-32"]') + QAT + 'precision = "int4-weights-32"\n'
    (step,) = load_recipe(write(text)).compress
    assert isinstance(step, QatStep)
    assert step.precision is Precision.INT4_WEIGHTS_32
    assert step.training.rate == 3e-4


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("2x", {"speedup": 2.0}),
        ("speedup 1.5x", {"speedup": 1.5}),
        ("macs <= 30 %", {"amount": pytest.approx(0.7)}),
        ("macs < 0.25", {"amount": 0.75}),
        ("p50 <= 5 ms", {"latency_ns": 5e6}),
        ("800 us", {"latency_ns": 8e5}),
    ],
)
def test_goals(text: str, goal: dict[str, float]) -> None:
    assert read_goal(text) == goal


@pytest.mark.parametrize("text", ["", "fast", "p90 <= 5 ms", "macs <= 120 %", "macs", "-2x"])
def test_what_is_no_goal(text: str) -> None:
    with pytest.raises(UsageError):
        read_goal(text)


@pytest.mark.parametrize(
    ("steps", "says", "fix"),
    [
        pytest.param(QAT + HALF, "prune stands after qat: what qat learned are ranges", "put qat last", id="qat-first"),
        pytest.param(QAT + QAT, "qat stands after qat", "once", id="qat-twice"),
        pytest.param(ZEROS + QAT, "qat stands after prune weights", "put prune weights last", id="zeros-qat"),
        pytest.param(HALF + QAT + DISTILL, "distill stands after qat", "put qat last", id="qat-distill"),
        pytest.param(ZEROS + DISTILL, "distill stands after prune weights", "its zeros stay", id="zeros-distill"),
        pytest.param(DISTILL, "would be its own teacher", "put prune before it", id="nobody-learns"),
        pytest.param(HALF + SMALL, "which would be thrown away", "leave student and scale out", id="other-student"),
        pytest.param(SMALL + SMALL, "than what distill left", "put distill first", id="two-students"),
        pytest.param(ZEROS + HALF + "epochs = 1\n", "fill or scatter the zeros", "stay zero", id="zeros-train"),
    ],
)
def test_a_senseless_order_is_refused_with_the_reason(
    write: Callable[[str], Path], steps: str, says: str, fix: str
) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe(write(RECIPE + steps))
    assert says in raised.value.found
    assert raised.value.found.startswith("line ")
    assert fix in raised.value.fix


def test_sensible_orders(write: Callable[[str], Path]) -> None:
    chain = (HALF + QAT, HALF + HALF, HALF + ZEROS, ZEROS + ZEROS, HALF + DISTILL, SMALL + HALF, SMALL + DISTILL)
    for steps in chain:
        assert len(load_recipe(write(RECIPE + steps)).compress) == 2
    for steps in (HALF + DISTILL + QAT, SMALL + HALF + QAT, HALF + DISTILL + ZEROS):
        assert len(load_recipe(write(RECIPE + steps)).compress) == 3


@pytest.mark.parametrize(
    ("text", "says", "fix"),
    [
        pytest.param(PRUNE, "no goal", "give one of amount", id="no-goal"),
        pytest.param(HALF + "amount = 0.3\n", "are both given", "remove one", id="two-goals"),
        pytest.param(
            PRUNE + 'target = "2x"\nschedule = "iterative:2"\n',
            "go all at once",
            "give an amount",
            id="schedule-latency",
        ),
        pytest.param(
            PRUNE + 'structure = "2:4"\nschedule = "iterative:2"\n', "go all at once", "leave", id="schedule-pattern"
        ),
        pytest.param(
            PRUNE + 'structure = "blocks"\namount = 2\nschedule = "gradual:2"\n',
            "one by one",
            "leave",
            id="schedule-blocks",
        ),
        pytest.param(
            PRUNE + 'structure = "blocks"\namount = 2\ncriterion = "taylor"\n', "how little", "leave", id="by-blocks"
        ),
        pytest.param(PRUNE + 'target = "soon"\n', '"soon" is no latency', "p50 <= 5 ms", id="goal"),
        pytest.param(
            PRUNE.replace("prune", "prun"), "is none of prune, distill, qat", 'did you mean "prune"?', id="method"
        ),
        pytest.param(HALF + DISTILL + 'L = ["0..5 soft-targets"]\n', "has no number", "WEIGHT NAME", id="weight"),
        pytest.param(HALF + DISTILL + 'L = ["0.5 soft-target"]\n', "no term 'soft-target'", "soft-targets", id="term"),
        pytest.param(
            HALF + DISTILL + 'L = ["0.5 soft-target:4"]\n', "no term 'soft-target'", "soft-targets", id="term-setting"
        ),
        pytest.param(HALF + DISTILL + 'L = ["hints"]\n', "has no modules", "hints:layers.2", id="no-modules"),
        pytest.param(HALF + DISTILL + 'L = ["soft-targets:0"]\n', "suits soft-targets", "above 0", id="temperature"),
        pytest.param(HALF + DISTILL + 'R = ["-1 confidence"]\n', "has the weight -1", "0 or more", id="negative"),
        pytest.param(HALF + DISTILL + 'augment = "crop-flp"\n', "is no such thing", "crop-flip", id="augment"),
        pytest.param(SMALL + "clip_norm = 0\n", "greater than 0", "", id="clip-norm"),
        pytest.param(SCALED, "no goal", "one latency to meet", id="scale-no-goal"),
        pytest.param(SCALED + 'target = "macs <= 50 %"\n', "is no latency", "4x", id="scale-macs"),
        pytest.param(HALF + DISTILL + 'target = "2x"\n', "may be changed", "or prune before", id="goal-nothing"),
        pytest.param(HALF + DISTILL + "student_arguments = { w = 1 }\n", "no student", "name it", id="arguments"),
        pytest.param(DISTILL + 'student = "small.onnx"\n', "is a graph", "factory", id="student-onnx"),
        pytest.param(DISTILL + 'student = "small.py:net"\n', "names a file", "small:net", id="student-file"),
        pytest.param(SMALL + 'student_weights = "no.pt"\n', "is not there", "exists", id="student-weights"),
        pytest.param(SMALL + "steps = 3\n", "without data", 'without_data = "fast"', id="steps-with-data"),
        pytest.param(SMALL + 'without_data = "fast"\nepochs = 3\n', "needs data", "remove", id="epochs-without"),
        pytest.param(SMALL + 'without_data = "fast"\nprocesses = 2\n', "needs data", "remove", id="processes-without"),
        pytest.param(
            SMALL + "processes = 3\n", "a batch of 128 for 3 processes", "share evenly", id="processes-uneven"
        ),
        pytest.param(QAT + "processes = 3\n", "a batch of 64 for 3 processes", "share evenly", id="qat-uneven"),
        pytest.param(SMALL + 'without_data = "fast"\n', "declared is nothing", "[inputs.image]", id="no-input"),
        pytest.param(SMALL + 'without_data = "fast"\nvalues = { iner = 5 }\n', "no such value", "inner", id="no-value"),
        pytest.param(
            SMALL + 'without_data = "fast"\nL = ["0.1 cross-entropy:0.1", "soft-targets"]\n',
            "'cross-entropy', which needs labels",
            "terms of the teacher alone",
            id="labels-without",
        ),
        pytest.param(
            IMAGE + SMALL + 'without_data = "fast"\nsteps = 20\n', "20 are the generator's", "more steps", id="warm-up"
        ),
        pytest.param(
            SMALL + 'without_data = "fast"\nL = ["adversarial"]\n',
            "scaled by samples",
            "what is made",
            id="critic",
        ),
        pytest.param(SMALL + "lambda_ = 3.0\n", "no such key", 'did you mean "lambda"?', id="lambda"),
        pytest.param("[[compress]]\nstructure = 'units'\n", "is missing", 'method = "prune"', id="no-method"),
        pytest.param(HALF + "speedup = 2\n", "no such key", 'write target = "2x"', id="an option of the command"),
        pytest.param(HALF + "epoch = 3\n", "no such key", 'did you mean "epochs"?', id="key"),
        pytest.param(QAT + "structure = 'units'\n", "no such key", 'method = "prune"', id="other-method"),
        pytest.param(HALF + 'criterion = "tayler"\n', "can't be done", "", id="criterion"),
        pytest.param(HALF + 'loss = "mse2"\nepochs = 1\n', "the loss 'mse2'", "pkg.mod:fn", id="loss"),
        pytest.param(HALF + "epochs = 'two'\n", "valid integer", "", id="type"),
        pytest.param(ZEROS + 'target = "macs <= 50 %"\n', "no goal for weights", "amount", id="weights-macs"),
        pytest.param(
            QAT + 'precision = "int4-weights-32"\n', "no target builds it", 'add "int4-weights-32"', id="no-target"
        ),
    ],
)
def test_mistakes_in_a_step(write: Callable[[str], Path], text: str, says: str, fix: str) -> None:
    with pytest.raises(RecipeError) as raised:
        load_recipe(write(RECIPE + text))
    assert says in raised.value.found
    assert fix in raised.value.fix
    assert "[[compress]]" in raised.value.found


def test_what_can_not_be_compressed(write: Callable[[str], Path], folder: Path) -> None:
    (folder / "net.onnx").write_bytes(b"")
    cases = {
        RECIPE.replace("net:create", "net.onnx") + HALF: "is a graph",
        RECIPE.replace('calibration = "calibration.npz"\n', "").replace(', "int8"', "") + HALF: "no samples to look at",
        RECIPE.replace('"calibration.npz"', '"range"') + HALF + "epochs = 1\n": "the samples are made up",
        RECIPE.replace('"calibration.npz"', '"range"') + SMALL: "the samples are made up",
        'state = { out = "hidden" }\ninputs.hidden.shape = ["batch", 3]\n'
        + RECIPE.replace('evaluation = "evaluation.npz"', 'evaluation = "evaluation.npz"\nsequence = 2')
        + HALF: "models with a state",
        RECIPE
        + '[inputs.image]\nshape = ["batch", 3, 8, 8]\npreprocess = { scale = 0.1, fold = true }\n'
        + HALF: "is folded into its graph",
    }
    for text, says in cases.items():
        with pytest.raises(RecipeError, match=says):
            load_recipe(write(text))


def test_training_samples_are_none_of_the_evaluation(write: Callable[[str], Path]) -> None:
    text = RECIPE.replace(
        'calibration = "calibration.npz"', 'calibration = "calibration.npz"\ntraining = "evaluation.npz"'
    )
    with pytest.raises(RecipeError, match="is the training set too"):
        load_recipe(write(text))


def test_the_schema_tells_the_methods_apart() -> None:
    items = schema()["properties"]["compress"]["items"]
    assert items["discriminator"]["propertyName"] == "method"
    assert set(items["discriminator"]["mapping"]) == {"prune", "distill", "qat"}


def test_without_data_no_samples_are_needed(write: Callable[[str], Path]) -> None:
    text = RECIPE.replace('"calibration.npz"', '"range"') + IMAGE + SMALL + 'without_data = "dafl"\n'
    (step,) = load_recipe(write(text)).compress
    assert not step.takes_samples
