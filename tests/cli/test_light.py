"""`edgeport --help` is cheap, and knows every command without loading one."""

import subprocess
import sys

import pytest

from edgeport.cli.app import COMMANDS, app

HEAVY = ("numpy", "rich", "pydantic", "onnx", "onnxruntime", "torch", "openvino", "scipy", "edgeport.contracts")

LOADED = f"""
import sys
sys.argv = ["edgeport", *sys.argv[1:]]
from edgeport.cli import main
try:
    main()
except SystemExit as ended:
    print("code", ended.code, file=sys.stderr)
print("loaded", [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""

MEASURED = """
import resource, subprocess, sys
def cpu_s(*command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
help = ("-c", "import sys; sys.argv = ['edgeport', '--help']; from edgeport.cli import main; main()")
print(min(cpu_s(*help) for _ in range(5)) - min(cpu_s("-c", "pass") for _ in range(5)))
"""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], ["bench", "--help"]], ids=" ".join)
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True, timeout=60
    )

    assert ended.stderr == "code 0\nloaded []\n"
    assert ended.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module measures it")
def test_help_costs_little_more_than_an_empty_python() -> None:
    ended = subprocess.run([sys.executable, "-c", MEASURED], capture_output=True, text=True, check=True, timeout=60)

    assert float(ended.stdout) <= 0.2


def test_the_table_of_commands_tells_the_truth() -> None:
    import click

    context = click.Context(app)
    for name in COMMANDS:
        command = app.get_command(context, name)
        assert command is not None
        assert command.name == name


def test_a_command_that_leaves_all_work_to_a_child_makes_no_arrays(tmp_path) -> None:
    model, samples = tmp_path / "empty.onnx", tmp_path / "empty.npz"
    model.touch()
    samples.touch()
    arguments = ["quantize", str(model), "--samples", str(samples)]
    ended = subprocess.run(
        [sys.executable, "-c", LOADED, *arguments], capture_output=True, text=True, check=True, timeout=60
    )

    assert "an empty file" in ended.stderr
    assert "numpy" not in ended.stderr.splitlines()[-1]
