"""Where the targets of a recipe run, and what they are called there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeport.contracts.recipe import LOCAL
from edgeport.errors import UsageError
from edgeport.recipe.errors import RecipeText

if TYPE_CHECKING:
    from edgeport.recipe.sections import RecipeFile

__all__ = ["names_of_targets", "read_devices"]


def read_devices(recipe: RecipeText, sections: RecipeFile) -> list[list[tuple[str, str]]]:
    """For each `[[target]]`, what it is on each of its devices: the target's name, and the device.

    A target without a name takes that of its device where the recipe has several devices, and a target that names
    several is one of its own on each.
    """
    places = [_devices(recipe, sections, index) for index in range(len(sections.target))]
    several = len({device for devices in places for device in devices}) > 1
    found = []
    for section, devices in zip(sections.target, places, strict=True):
        own = section.name or ""
        if len(devices) > 1 and own:
            found.append([(f"{own}-{device}", device) for device in devices])
        else:
            found.append([(own or device if several else own, device) for device in devices])
    return found


def names_of_targets(recipe: RecipeText, sections: RecipeFile, index: int) -> list[str]:
    """Of one `[[target]]`; none where it ships without a name."""
    return [name for name, _ in read_devices(recipe, sections)[index] if name]


def _devices(recipe: RecipeText, sections: RecipeFile, index: int) -> list[str]:
    from edgeport.devices.inventory import check_name

    section, key = sections.target[index], ("target", index, "devices")
    if section.devices is None:
        key, names = ("target", index, "device"), [section.device or LOCAL]
    elif section.device is not None:
        raise recipe.error(("target", index), "has both device and devices", "keep one of the two")
    else:
        names = section.devices
    if len(set(names)) < len(names):
        raise recipe.wrong_value(key, "names a device twice", "name each once")
    for name in names:
        try:
            check_name(name)
        except UsageError as error:
            fix = f'give "local", or a name that `edgeport devices list` shows; for a new one, {error.fix}'
            raise recipe.wrong_value(key, f"holds {name!r}, which is no name of a device", fix) from error
    return names
