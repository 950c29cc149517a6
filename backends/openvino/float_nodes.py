"""float32 beside bfloat16 or float16 in one model.

The plugin has one setting for the float that it computes in. Operations with the attribute `precise` in the IR keep to
float32 all the same: that is what the attribute is for, where 16 bits would not do. So float32 and one of the two
others can stand side by side, node by node; bfloat16 beside float16 can't.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

from edgeport.backends.openvino.names import onnx_name
from edgeport.contracts import Precision, QuantizationPlan
from edgeport.errors import UnsupportedByBackend

__all__ = ["FloatNodes", "hinted_float"]

_ATTRIBUTE = {"name": "precise", "version": "0"}
_NOT_COMPUTED = frozenset({"Parameter", "Result", "Const", "FakeQuantize"})


def hinted_float(plan: QuantizationPlan) -> Precision:
    """The float that the plugin is told to compute in: that of 16 bits, if the plan has one.

    Raises:
        UnsupportedByBackend: It has both.

    """
    named = {one: name for name, one in plan.nodes.items() if one.is_float}
    halves = [one for one in (Precision.BF16, Precision.FP16) if one is plan.default or one in named]
    if len(halves) > 1:
        where = ", ".join(f"{named[one]!r} in {one}" if one in named else f"the rest in {one}" for one in halves)
        raise UnsupportedByBackend(
            asked=f"run {where} in one OpenVINO model",
            found="that the plugin computes in one float of 16 bits, the same for the whole model, beside float32",
            fix="choose one of bf16 and fp16; fp32 may stand beside either",
        )
    return halves[0] if halves else Precision.FP32


@dataclass(frozen=True, kw_only=True)
class FloatNodes:
    """Which operations of an IR stay in float32.

    Attributes:
        named: ONNX nodes that the plan names in a float or in integers, those that stay in float32 apart.
        precise: ONNX nodes that it names in float32.
        rest: All other operations stay in float32 too.

    """

    named: Collection[str]
    precise: Collection[str]
    rest: bool

    @classmethod
    def of(cls, plan: QuantizationPlan) -> FloatNodes | None:
        """What a plan asks for; None where one float does for all."""
        precise = frozenset(name for name, one in plan.nodes.items() if one is Precision.FP32)
        hinted = hinted_float(plan)
        rest = plan.default is Precision.FP32
        if hinted is Precision.FP32 or not (rest or precise):
            return None
        return cls(named=frozenset(plan.nodes) - precise, precise=precise, rest=rest)

    def mark(self, path: Path) -> None:
        """Writes the attribute into the `.xml` of an IR, in place."""
        tree = ET.parse(path)  # noqa: S314 (written by OpenVINO just now)
        for layer in tree.iter("layer"):
            if layer.get("type") not in _NOT_COMPUTED and self._stays(onnx_name(layer.get("name", ""))):
                info = layer.find("rt_info")
                if info is None:
                    info = ET.SubElement(layer, "rt_info")
                ET.SubElement(info, "attribute", _ATTRIBUTE)
        tree.write(path, encoding="utf-8", xml_declaration=True)

    def _stays(self, name: str) -> bool:
        return name in self.precise or (self.rest and name not in self.named)
