"""What is taken out of a PyTorch model, and how what is left is trained."""

from __future__ import annotations

from dataclasses import dataclass

from edgeport.options.declare import option
from edgeport.options.goals import GoalTiming
from edgeport.options.training import SEEDS, SupervisedOptions, device_option

__all__ = ["PRUNED", "PruneOptions", "PruneSettings"]

PRUNED = ("units", "channels", "neurons", "heads", "weights", "2:4", "4:8", "blocks")
"""What can be pruned; "units" are channels, neurons and heads together."""

_CRITERIA = "l1, l2, near-zero, batchnorm-scale, zero-activations, entropy, taylor, fisher, hessian, random"


@dataclass(frozen=True, kw_only=True)
class PruneSettings:
    """What goes, and how much of it.

    Attributes:
        what: One of `PRUNED`: "units" (channels, neurons and heads), one kind of them, "weights", "2:4", "4:8" or
            "blocks".
        by: The criterion; what the lowest scores of go first: "l2", "l1", "near-zero:0.1", "batchnorm-scale",
            "zero-activations", "entropy:lowest", "taylor", "fisher", "hessian:8", "random:0". Blocks have one of their
            own, their influence.
        amount: Of units, the share of the multiplications that goes; of weights, the share that becomes zero; of
            blocks, how many. None where the latency decides, and for patterns ("2:4"), which say it themselves.
        latency_ns: Median that the float model is to have on the target.
        speedup: Instead: how many times as fast it is to be as before.
        schedule: "one-shot", "iterative:5" or "gradual:10"; "one-shot" where the latency decides and of patterns, whose
            zeros come all at once, and of blocks, which go one by one.
        scope: "global" or "layer": what competes; "global" where the latency decides.
        round_to: Channels that are left are a multiple of this; where the latency decides, of twice as many if the
            target is seen to compute so many at once.
        least: Share of each layer that stays.
        samples: How many are looked at.
        recalibrate: BatchNorm's statistics are taken anew over the samples, after each step and before any training;
            for samples of real data.
        epochs_between: Walks over the samples after each of the schedule's steps before the last one.
        fine_tune: `pkg.mod:fn`, called with the module and the number of the step after each; empty for none.
        device: That trains: "cpu", "cuda" or "auto".

    """

    what: str = option(
        "units", choices=PRUNED, key="structure", recipe="what goes; units are channels, neurons and heads together"
    )
    by: str = option(
        "l2", f"{_CRITERIA}.", metavar="CRITERION", key="criterion", recipe=f"what goes first by: {_CRITERIA}"
    )
    amount: float | None = option(
        None,
        "Share of multiplications or weights that goes, or how many blocks.",
        recipe="instead: of units the share of multiplications that goes, of weights the share that becomes zero, of "
        "blocks how many go",
        within={"gt": 0, "allow_inf_nan": False},
    )
    latency_ns: float | None = option(
        None, "Instead: the median to reach on this machine.", flag="--latency", parse="median", metavar="5ms"
    )
    speedup: float | None = option(None, "Instead: how many times as fast.")
    schedule: str = option(
        "one-shot", "one-shot; of an amount iterative:5, gradual:10 too.", recipe="one-shot, iterative:5 or gradual:10"
    )
    scope: str = option(
        "global", "What competes; all for a latency.", choices=("global", "layer"), recipe="what competes"
    )
    round_to: int = option(8, "Channels that are left.", least=1, recipe="channels that are left", within={"le": 4096})
    least: float = option(
        0.1, "Share of each layer that stays.", recipe="share of each layer that stays", within={"ge": 0, "lt": 1}
    )
    samples: int = option(
        256, "Samples to look at.", flag="--count", least=2, recipe="training samples that are looked at"
    )
    recalibrate: bool = option(
        default=False,
        text="BatchNorm's statistics anew over the samples, if these are real data.",
        recipe="BatchNorm's statistics anew over these samples, before any training",
    )
    epochs_between: int = option(
        1, "After the other steps.", least=0, recipe="the same after each of the schedule's other steps"
    )
    fine_tune: str = option(
        "",
        "Called with the module and the step after each.",
        metavar="pkg.mod:fn",
        recipe="pkg.mod:fn instead, called with the module and the step's number after each",
    )
    device: str = device_option("That trains.")


@dataclass(frozen=True, kw_only=True)
class PruneOptions(GoalTiming, PruneSettings, SupervisedOptions):
    """Of `edgeport.api.prune`: what goes, and how what is left learns on all samples after the last step.

    Attributes:
        epochs: Walks over the samples after the last step; 0 for no training.
        rate: Learning rate of AdamW at its highest; it falls as a cosine.
        teacher: Weight of the unpruned model's outputs beside the labels, 0..1.

    """

    epochs: int = option(
        0,
        "Instead: walks over all samples after the last step.",
        least=0,
        shows_default=False,
        recipe="walks over the training samples after the last step",
    )
    rate: float = option(
        1e-3, "Highest learning rate.", above=0, recipe="learning rate of AdamW at its highest", within={"le": 10}
    )
    teacher: float = option(
        0.0,
        "Weight of the unpruned model's outputs beside the labels.",
        least=0,
        most=1,
        recipe="weight of the teacher's outputs beside the labels: the original's",
    )
    seed: int = option(0, "Of the training.", recipe="of the order of the samples", within={"ge": 0, "lt": SEEDS})
