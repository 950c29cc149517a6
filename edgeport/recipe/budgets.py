"""From [budget] and [target.budget] to the contract; a limit that nothing could keep is an error."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from edgeport.accuracy.metrics import METRICS
from edgeport.contracts import Budget
from edgeport.contracts.recipe import DataSpec
from edgeport.recipe.devices import names_of_targets
from edgeport.recipe.errors import KeyPath, RecipeText
from edgeport.recipe.quantities import NotAQuantity, parse_bytes, parse_latency, parse_rate, parse_time

if TYPE_CHECKING:
    from edgeport.recipe.sections import BudgetSection, RecipeFile

__all__ = ["read_budget", "read_target_budgets"]

T = TypeVar("T")

_OWN_UNIT = ("mae", "mse", "sqnr")
_LEAST_LATENCY_NS = 1000


def read_budget(recipe: RecipeText, section: BudgetSection, data: DataSpec, key: KeyPath) -> Budget:
    """The limits of a section that stands at `key`."""

    def read(name: str, parse: Callable[[str], T]) -> T | None:
        text = getattr(section, name)
        if text is None:
            return None
        try:
            return parse(text)
        except NotAQuantity as error:
            raise recipe.wrong_value((*key, name), "can't be read", f"give {error}") from error

    latency = read("latency", parse_latency)
    values: dict[str, int | None] = {
        "peak_memory": read("peak_memory", parse_bytes),
        "size": read("size", parse_bytes),
        "first_inference": read("first_inference", parse_time),
    }
    throughput = read("throughput", parse_rate)
    for name, value in (*values.items(), ("latency", None if latency is None else latency[1])):
        if value is not None and (value <= 0 or not math.isfinite(value)):
            raise recipe.wrong_value((*key, name), "can't be kept", "give a limit above zero")
    if latency is not None and latency[1] < _LEAST_LATENCY_NS:
        raise recipe.wrong_value(
            (*key, "latency"), "can't be kept: the call alone takes more than 1 us", "did you mean ms?"
        )
    quantile, latency_ns = latency if latency is not None else (Budget().latency_quantile, None)
    return Budget(
        accuracy_drop=_accuracy_drop(recipe, section, data, (*key, "accuracy_drop")),
        latency_quantile=quantile,
        latency_ns=latency_ns,
        throughput_per_s=throughput,
        peak_memory_bytes=values["peak_memory"],
        size_bytes=values["size"],
        first_inference_ns=values["first_inference"],
    )


def _accuracy_drop(recipe: RecipeText, section: BudgetSection, data: DataSpec, key: KeyPath) -> float:
    metric, drop = data.metric, section.accuracy_drop
    if drop is None:
        if metric in _OWN_UNIT:
            raise recipe.error(
                key, f"is missing, and {metric} has a unit of its own", "say how large a loss may be in that unit"
            )
        return Budget().accuracy_drop
    if not math.isfinite(drop) or drop < 0:
        raise recipe.wrong_value(key, "can't be kept", "give 0 or more, such as 0.01")
    if metric in METRICS and metric not in _OWN_UNIT and drop >= 1:
        raise recipe.wrong_value(
            key, f"allows everything: {metric} is at most 1", f"write {drop / 100:g} for {drop:g} percent"
        )
    if metric in METRICS and METRICS[metric].proportion and drop == 0:
        raise recipe.wrong_value(
            key, "can't be kept: no number of samples shows that nothing is lost", "allow a little, such as 0.005"
        )
    return drop


def read_target_budgets(recipe: RecipeText, sections: RecipeFile, data: DataSpec) -> dict[str, Budget]:
    """By name: the limits of [budget], each replaced by the one in [target.budget] where that has it."""
    found: dict[str, Budget] = {}
    for index, section in enumerate(sections.target):
        key = ("target", index, "budget")
        if section.budget is None:
            continue
        names = names_of_targets(recipe, sections, index)
        if not names:
            raise recipe.error(key, "is of a target without a name", "write it as [budget], or name the targets")
        own, common = section.budget, sections.budget
        merged = {**_given(common), **_given(own)}
        for name in names:
            if name in found:
                raise recipe.error(key, f"is a second budget of {name}", "give it at one target of that name")
            found[name] = read_budget(recipe, type(own)(**merged), data, key)
    return found


def _given(section: BudgetSection) -> dict[str, Any]:
    return {name: getattr(section, name) for name in section.model_fields_set}
