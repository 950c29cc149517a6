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
    "edgeport.drafting",
    "edgeport.isolation",
    "edgeport.onnx_files",
    "edgeport.options",
    "edgeport.pipeline",
    "edgeport.preprocessing",
    "edgeport.recipe",
    "edgeport.report",
    "edgeport.testing",
)

setup(
    packages=[*OWN, *(f"edgeport.{name}" for name in find_packages(".") if name.split(".")[0] in ROOTS)],
    package_dir={"edgeport": "edgeport"} | {f"edgeport.{root}": root for root in ROOTS},
    package_data={"edgeport": ["py.typed"], "edgeport.bundle": ["LICENSE"], "edgeport.report": ["*.html", "*.css"]},
)
