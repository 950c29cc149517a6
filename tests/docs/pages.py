"""Pages of the documentation as steps: files to write, commands to run, and what they are said to print.

What a page may hold, and what becomes of it:

- a block of `python`, `toml` or `text` whose first line is a comment with a file's name (`# net.py`) is written to that
  file;
- any other block of `python` is a program that is run;
- a block of `sh` is run by bash, which stops at the first command that fails;
- a block after `<!-- part of: examples/vad/vad.py -->` is shown from that file, and must stand there in these lines;
- a block of `text` or `json` right after one that ran is what that printed. Every line must have been printed; numbers
  count as equal, and a line that ends in "..." may go on. After `<!-- differs: why -->` verdicts and notes depend on
  the machine, so two thirds of the lines must begin with a word that a printed line begins with.

At the top of a page, `<!-- goes on from: PAGE -->` starts it in the folder that another page left,
`<!-- slow: why -->` leaves it to `-m slow`, and `<!-- needs: silero_vad, $EDGEPORT_ZOO -->` names modules, and
environment variables after a $, without which it is skipped.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

SETUP = ("make", "pip", "git", "source", "EDGEPORT_ZOO=")
"""Commands that set up an environment, by how they begin: tests have one already."""

FILES = {"python", "toml", "text"}
SHOWN = {"text", "json"}

_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```[^\S\n]*$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- ([\w ]+): (.+?) -->\n\Z")
_PAGE_MARK = re.compile(r"^<!-- (goes on from|slow|needs): (.+?) -->$", re.MULTILINE)
_NAME = re.compile(r"\A# ([\w./-]+\.\w+)\n")
_LIMIT_S = 900


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block: its language, text, first line in the page, and what a mark above it says.

    Attributes:
        differs: Only first words count.
        part_of: The file of the project that it is taken from; empty for all else.

    """

    language: str
    text: str
    line: int
    differs: bool = False
    part_of: str = ""

    @property
    def file(self) -> str:
        """The file that it is written to; empty for what is run or shown."""
        named = _NAME.match(self.text)
        return named[1] if named and self.language in FILES else ""


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page: its blocks in order, the page whose folder it goes on from, why it is slow, and what it needs."""

    path: Path
    blocks: tuple[Block, ...]
    goes_on_from: str = ""
    slow: str = ""
    needs: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """What it needs and this machine has not."""
        return [
            name
            for name in self.needs
            if not (os.environ.get(name[1:]) if name.startswith("$") else importlib.util.find_spec(name))
        ]


class PageError(Exception):
    """A page that does not do what it says, with the place in it."""


def read_page(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    marks = dict(_PAGE_MARK.findall(text))
    blocks = []
    for found in _FENCE.finditer(text):
        before = text[: found.start()]
        mark = _MARK.search(before)
        kind, told = (mark[1], mark[2]) if mark else ("", "")
        blocks.append(
            Block(
                language=found[1],
                text=found[2],
                line=before.count("\n") + 2,
                differs=kind == "differs",
                part_of=told if kind == "part of" else "",
            )
        )
    needs = tuple(name.strip() for name in marks.get("needs", "").split(",") if name.strip())
    return Page(
        path=path,
        blocks=tuple(blocks),
        goes_on_from=marks.get("goes on from", ""),
        slow=marks.get("slow", ""),
        needs=needs,
    )


def execute(page: Page, folder: Path) -> int:
    """Follows a page in `folder`; returns how many blocks ran.

    Raises:
        PageError: A command failed, or did not print what the page shows.

    """
    printed: str | None = None
    ran = 0
    for block in page.blocks:
        where = f"{page.path.name}:{block.line}"
        if block.part_of:
            if block.text not in (ROOT / block.part_of).read_text(encoding="utf-8"):
                raise PageError(f"{where}: these lines do not stand in {block.part_of}")
            printed = None
        elif block.file:
            target = folder / block.file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text, encoding="utf-8")
            printed = None
        elif block.language in {"sh", "python"}:
            printed = _run(block, folder, where)
            ran += printed is not None
        elif block.language in SHOWN:
            if printed is not None:
                missing = not_printed(block, printed)
                if missing:
                    raise PageError(f"{where}: not printed: {missing}\nprinted was:\n{printed}")
        else:
            raise PageError(f"{where}: a block of {block.language or 'no language'} that is neither a file nor run")
    return ran


def commands_of(block: Block) -> list[str]:
    """Lines of a block of sh, with those joined that a backslash continues."""
    joined = re.sub(r"\\\n\s*", " ", block.text)
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def is_setup(command: str) -> bool:
    words = shlex.split(command, comments=True)
    return command.startswith("python -m venv") or words[0].startswith("EDGEPORT_ZOO=") or words[0] in SETUP


def _run(block: Block, folder: Path, where: str) -> str | None:
    if block.language == "python":
        command = [sys.executable, "-c", block.text]
    else:
        commands = commands_of(block)
        if all(is_setup(command) for command in commands):
            return None
        if any(is_setup(command) for command in commands):
            raise PageError(f"{where}: what sets up an environment stands among what is run; give it its own block")
        command = ["bash", "-e", "-o", "pipefail", "-c", block.text]
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_LIMIT_S,
        check=False,
    )
    if done.returncode != 0:
        raise PageError(f"{where}: ended with {done.returncode}\n{block.text}\nprinted:\n{done.stdout}")
    return done.stdout


def _environment() -> dict[str, str]:
    """A terminal of 100 columns without colours, with this Python's programs first."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "COLUMNS": "100",
        "NO_COLOR": "1",
        # Idle threads of PyTorch spin by default, which makes training many times slower on a busy machine.
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def not_printed(block: Block, printed: str) -> list[str]:
    """The lines of a shown block that were not printed."""
    if block.differs:
        words = {line.split()[0] for line in masked(printed)} | {"..."}
        shown = masked(block.text)
        missing = [line for line in shown if line.split()[0] not in words]
        return missing if len(missing) > len(shown) / 3 else []
    lines = masked(printed)
    known = set(lines)
    return [line for line in masked(block.text) if line not in known and not _goes_on(line, lines)]


def _goes_on(shown: str, lines: list[str]) -> bool:
    return shown.endswith("...") and any(line.startswith(shown[:-3].rstrip()) for line in lines)


def masked(text: str) -> list[str]:
    """Lines without indentation; numbers and digests are masked, units after them too, and spaces count as one."""
    digests = re.sub(r"\b[0-9a-f]{12,}\b", "#", text)
    numbers = re.sub(r"-?\d+(?:[.,]\d+)*(?:e[-+]?\d+)?", "#", digests)
    units = re.sub(r"# (?:ns|us|ms|s|B|kB|MB|GB)\b", "# _", numbers)
    lines = (" ".join(line.split()) for line in units.splitlines())
    return [line for line in lines if line]
