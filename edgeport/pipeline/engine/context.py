"""What every step of a run needs at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from edgeport.contracts import Device, DeviceFacts, Limits, OnProgress, Processor, TimesOnly, silent
from edgeport.contracts.recipe import LOCAL, Recipe
from edgeport.errors import UsageError
from edgeport.pipeline.engine.progress import Clock
from edgeport.pipeline.engine.scratch import scratch_folder
from edgeport.store import Store

__all__ = ["Reached", "RunContext", "reach", "require_local", "run_context"]


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A device of a run.

    Attributes:
        device: Where artifacts run.
        facts: Of it.
        processor: That plans are made for; None where it is as this machine's.
        here: It is this machine, on which only one thing may be measured.

    """

    device: Device
    facts: DeviceFacts
    processor: Processor | None = None
    here: bool = True


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """One run's settings and services.

    Attributes:
        recipe: What was asked.
        store: Where finished steps are kept.
        device: Where artifacts run.
        facts: Of the device.
        clock: Progress and time left.
        scratch: A folder for files that nobody needs after the run.
        limits: Of each child process.
        processor: That plans are made for; None where it is as this machine's.
        devices: Every device of the recipe's targets, by name; `device`, `facts` and `processor` are one's of them.

    """

    recipe: Recipe
    store: Store
    device: Device
    facts: DeviceFacts
    clock: Clock
    scratch: Path
    limits: Limits
    processor: Processor | None = None
    devices: Mapping[str, Reached] = field(default_factory=dict)

    def on(self, name: str) -> RunContext:
        """The run as seen from one of its devices."""
        one = self.devices.get(name)
        return self if one is None else replace(self, device=one.device, facts=one.facts, processor=one.processor)


@contextmanager
def run_context(
    recipe: Recipe,
    *,
    store: Path | None = None,
    on_progress: OnProgress = silent,
    limits: Limits | None = None,
    fresh: bool = False,
    device: str = "local",
) -> Iterator[RunContext]:
    """What a run needs, with a scratch folder that is removed in the end; arguments as in `run`.

    Raises:
        UsageError: There is no such device.
        DeviceError: One can't be reached.

    """
    recipe = _placed(recipe, device)
    with scratch_folder(Store(store).root) as scratch, ExitStack() as stack:
        reached = {
            name: reach(stack, name, scratch / "devices" / name)
            for name in dict.fromkeys(target.device for target in recipe.targets)
        }
        first = next(iter(reached.values()))
        yield RunContext(
            recipe=recipe,
            store=Store(store, fresh=fresh),
            device=first.device,
            facts=first.facts,
            clock=Clock(on_progress),
            scratch=scratch,
            limits=limits or recipe.search.limits,
            processor=first.processor,
            devices=reached,
        )


def reach(stack: ExitStack, name: str, workdir: Path) -> Reached:
    """Opens a device until the stack ends, and asks it what it is.

    Raises:
        UsageError: There is no such device, or it gives no outputs.
        DeviceError: It can't be reached.

    """
    from edgeport.devices.local import LocalDevice
    from edgeport.devices.opening import open_device

    device = stack.enter_context(open_device(name, workdir))
    if isinstance(device, TimesOnly):
        raise UsageError(
            asked=f"judge candidates on {name}",
            found=device.only_times,
            fix="put a Python there (docs/how-to/devices.md); edgeport bench and compare can time artifacts as it is",
        )
    facts = device.facts()
    alike = facts.processor == _own_processor()
    processor = None if alike else facts.processor
    return Reached(device=device, facts=facts, processor=processor, here=isinstance(device, LocalDevice))


@lru_cache(maxsize=1)
def _own_processor() -> Processor:
    """Of this machine, as its own agent sees it."""
    from edgeport.devices.agent.facts import device_facts

    facts = device_facts()
    return Processor(machine=facts["machine"], isa=tuple(facts["isa"]))


def _placed(recipe: Recipe, device: str) -> Recipe:
    """Targets that name no device run on this one."""
    targets = tuple(replace(one, device=device) if one.device == LOCAL else one for one in recipe.targets)
    return recipe if device == LOCAL else replace(recipe, targets=targets)


def require_local(recipe: Recipe) -> None:
    """Refuses targets on other devices, for what is done on this machine only.

    Raises:
        UsageError: There is one.

    """
    foreign = [target.device for target in recipe.targets if target.device != LOCAL]
    if foreign:
        raise UsageError(
            asked=f"train for the device {foreign[0]!r}",
            found="that what is trained is judged and timed on this machine",
            fix="name a target without a device, and time what is made with edgeport bench --device",
        )
