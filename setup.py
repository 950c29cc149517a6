"""Maps the four folders at the root to `edgeport.NAME`; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

ROOTS = ("backends", "calibration", "devices", "exporter")
# Spelled out: a search would follow the links inside edgeport/ and find each folder twice.
OWN = (
    "edgeport",
    "edgeport.accuracy",
    "edgeport.api",
    "edgeport.bundle",
    "edgeport.cli",
    "edgeport.cli.commands",
    "edgeport.contracts",
    "edgeport.digits",
    "edgeport.isolation",
    "edgeport.onnx_files",
    "edgeport.options",
    "edgeport.pipeline",
    "edgeport.pipeline.benchmarking",
    "edgeport.pipeline.compilation",
    "edgeport.pipeline.compression",
    "edgeport.pipeline.datasets",
    "edgeport.pipeline.engine",
    "edgeport.pipeline.evaluation",
    "edgeport.pipeline.output",
    "edgeport.pipeline.quantization",
    "edgeport.pipeline.search",
    "edgeport.pipeline.selection",
    "edgeport.pipeline.source_model",
    "edgeport.preprocessing",
    "edgeport.recipe",
    "edgeport.recipe_init",
    "edgeport.report",
    "edgeport.testing",
)

setup(
    packages=[*OWN, *(f"edgeport.{name}" for name in find_packages(".") if name.split(".")[0] in ROOTS)],
    package_dir={"edgeport": "edgeport"} | {f"edgeport.{root}": root for root in ROOTS},
    package_data={"edgeport": ["py.typed"], "edgeport.bundle": ["LICENSE"], "edgeport.report": ["*.html", "*.css"]},
)
