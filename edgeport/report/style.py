"""Colours, marks and dashes: the same candidate looks the same in the table and in every plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeport.contracts import AS_GIVEN, ORIGINAL, Candidate, Precision

__all__ = ["CandidateStyle", "looks"]

# Middle tones, which can be told apart on white and on black, and by the colour-blind (after Okabe and Ito, 2008).
_BACKENDS = {"onnxruntime": "#2f81f7", "openvino": "#b45fd9", "tensorrt": "#1fa97a"}
_OTHERS = ("#d9822b", "#d6487e", "#7a8594", "#a3a021")
_MARKERS = {
    Precision.FP32: "circle",
    Precision.BF16: "diamond",
    Precision.FP16: "inverted_triangle",
    Precision.INT8: "square",
    Precision.FP8: "square_x",
    Precision.INT16: "square_cross",
    Precision.INT8_DYNAMIC: "triangle",
}
_GLYPHS = {
    Precision.FP32: "●",
    Precision.BF16: "◆",
    Precision.FP16: "▼",
    Precision.INT8: "■",
    Precision.FP8: "⊠",
    Precision.INT16: "▣",
    Precision.INT8_DYNAMIC: "▲",
}
_OF_WEIGHTS = {"int8": ("hex", "⬢", "dashdot"), "int4": ("star", "★", "dotdash"), "uint4": ("plus", "✚", "dotted")}
"""Marker, glyph and dash where weights alone are integers."""
_DASHES = {
    Precision.FP32: "dashed",
    Precision.BF16: "dotted",
    Precision.FP16: "dotdash",
    Precision.INT8: "solid",
    Precision.FP8: "dotted",
    Precision.INT16: "solid",
    Precision.INT8_DYNAMIC: "dashdot",
}


@dataclass(frozen=True, kw_only=True)
class CandidateStyle:
    """Of one candidate.

    Attributes:
        colour: Of its backend, and of what the model was compressed to; "#rrggbb".
        marker: Bokeh's name, by precision.
        glyph: The same mark as a character.
        dash: Bokeh's name, by precision.

    """

    colour: str
    marker: str
    glyph: str
    dash: str


def looks(candidates: Sequence[Candidate]) -> dict[str, CandidateStyle]:
    """Candidate name to its look."""
    strangers: list[tuple[str, str]] = [(name, "") for name in sorted({c.backend for c in candidates} - set(_BACKENDS))]
    strangers += sorted({(c.backend, c.variant) for c in candidates if _made_from(c)})
    colours = {(name, ""): colour for name, colour in _BACKENDS.items()}
    colours |= {one: _OTHERS[i % len(_OTHERS)] for i, one in enumerate(strangers)}
    return {
        c.name: CandidateStyle(
            colour=colours[c.backend, _made_from(c)],
            marker=_mark(c.precision)[0],
            glyph=_mark(c.precision)[1],
            dash=_mark(c.precision)[2],
        )
        for c in candidates
    }


def _made_from(candidate: Candidate) -> str:
    """The variant of what was compressed; empty for the model as it is."""
    return candidate.variant if candidate.variant not in (ORIGINAL, AS_GIVEN) else ""


def _mark(precision: Precision) -> tuple[str, str, str]:
    form = precision.weight_form
    if form is not None:
        return _OF_WEIGHTS[form.dtype]
    return _MARKERS[precision], _GLYPHS[precision], _DASHES[precision]
