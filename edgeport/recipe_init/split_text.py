"""The Python file that splits samples of the user's in two: some to calibrate with, the others to judge on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgeport.recipe_init.columns import Columns
from edgeport.recipe_init.image_preprocessing import image_layout
from edgeport.recipe_init.input_spec import Guess
from edgeport.recipe_init.sample_formats import SampleFormat

__all__ = ["Split", "cut_sounds", "split_counts", "split_samples"]

_EVERY = 4
_MOST_CALIBRATION = 256


@dataclass(frozen=True, kw_only=True)
class Split:
    """What is split, and for which inputs.

    Attributes:
        path: Of the file or folder; a relative one lies beside the module.
        form: How samples come.
        inputs: That they feed.
        beside: Names of arrays that are kept beside the inputs.
        target: Array or column of the labels; empty for none.
        count: Of all samples.
        columns: Of a table.
        converted: Inputs whose arrays in the file have another dtype.
        facts: As `look_at_samples` found them.
        cut: Sounds are brought to one length by the module's `cut`.
        sequence: Array or column that says of which sequence each sample is a step; empty where nothing does, None
            where samples are no steps.

    """

    path: str
    form: SampleFormat
    inputs: tuple[Guess, ...]
    count: int
    beside: tuple[str, ...] = ()
    target: str = ""
    columns: Columns | None = None
    converted: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    cut: bool = False
    sequence: str | None = None


_HEAD = '''\
"""Splits {file} in two: {calibration} samples, drawn at random, are for calibration, the others for evaluation."""

{imports}

{constants}


def calibration():
    """Where int8 ranges come from."""
    return batches(for_calibration=True)


def evaluation():
    """How accuracy is judged; shares no sample with the calibration."""
    return batches(for_calibration=False)


{batches}

def chosen(count, for_calibration):
    """Indices of the samples of one set; the same each time."""
    order = np.random.default_rng(0).permutation(count)
    return np.sort(order[:{calibration}] if for_calibration else order[{calibration}:])
'''

_NPZ = '''\
def batches(for_calibration, size=32):
    """Batches of (arrays by input name, labels)."""
    with np.load(FILE) as file:
        arrays = {name: file[name] for name in INPUTS}
{converted}        labels = file[TARGET] if TARGET else None
    rows = chosen(len(arrays[INPUTS[0]]), for_calibration)
    for start in range(0, len(rows), size):
        some = rows[start : start + size]
        feeds = {name: array[some] for name, array in arrays.items()}
        yield feeds if labels is None else (feeds, labels[some])
'''

_NPY = '''\
def batches(for_calibration, size=32):
    """Batches by input name."""
    samples = np.load(FILE, mmap_mode="r")
    rows = chosen(len(samples), for_calibration)
    for start in range(0, len(rows), size):
        yield {INPUT: np.array(samples[rows[start : start + size]]{dtype})}
'''

_TABLE = '''\
def batches(for_calibration, size=32):
    """Batches of (arrays by input name, labels)."""
    with FILE.open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file, delimiter=DELIMITER))
    rows = chosen(len(table), for_calibration)
    for start in range(0, len(rows), size):
        some = [table[row] for row in rows[start : start + size]]
        feeds = {name: np.array([values(row, of) for row in some], dtype) for name, (of, dtype) in INPUTS.items()}
        yield (feeds, np.array([label(row[TARGET]) for row in some])) if TARGET else feeds


def values(row, columns):
    """One number, or those of several columns."""
    return float(row[columns]) if isinstance(columns, str) else [float(row[column]) for column in columns]


def label(text):
    """A class's index, or a number."""
    return CLASSES.index(text) if CLASSES else float(text) if set(text) & set(".eE") else int(text)
'''

_FILES = '''\
def batches(for_calibration):
    """One {what} at a time{and_label}."""
    files = sorted(path for path in FOLDER.glob({pattern}) if path.suffix.lower() in SUFFIXES and path.name[0] != ".")
    for row in chosen(len(files), for_calibration):
        {feeds} = {{INPUT: read(files[row])[None]}}
{yields}

'''

_READ_IMAGE = '''
def read(file):
    """Pixels uint8 [height, width, channels]; [inputs.{name}.preprocess] says what is done to them."""
    with Image.open(file) as image:
        pixels = np.asarray(image.convert({mode}))
    return pixels{reshaped}

'''

_READ_SOUND = '''
def read(file):
    """Samples float32 [n]{channel}, -1..1, of one channel."""
    rate, sound = wavfile.read(file)
    if rate != RATE or sound.ndim != 1:
        raise ValueError(f"{{file.name}}: {{rate}} Hz, shape {{sound.shape}}; the others have {{RATE}} Hz, one channel")
    if sound.dtype == np.uint8:  # silence is 128
        sound = (sound.astype(np.float32) - 128) / 128
    elif sound.dtype.kind == "i":
        sound = (sound / -float(np.iinfo(sound.dtype).min)).astype(np.float32)
    return sound.astype(np.float32){reshaped}

'''

_SEQUENCES = '''\
def chosen(count, for_calibration):
    """Indices of the samples of one set: the first quarter of the sequences, or the others; steps stay in order."""
{cut}
    return np.arange(count)[:cut] if for_calibration else np.arange(count)[cut:]
'''

_NAMES = {
    SampleFormat.NAMED: """\
    with np.load(FILE) as file:
        names = file[{name}]
""",
    SampleFormat.TABLE: """\
    with FILE.open(encoding="utf-8-sig", newline="") as file:
        names = np.array([row[{name}] for row in csv.DictReader(file, delimiter=DELIMITER)])
""",
}

_BY_NAME = """\
    starts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    cut = starts[max(1, len(starts) // 4)] if len(starts) > 1 else count // 4"""

_CUT = '''

def cut(sounds):
    """Sounds [n] of any lengths to float32 {shape}: zeros behind shorter ones, the end of longer ones left out."""
    found = np.zeros((len(sounds), {channel}LENGTH), np.float32)
    for row, sound in zip(found, sounds):
        row[..., : len(sound)] = sound[:LENGTH]
    return found
'''


def split_samples(split: Split) -> str:
    """Text of a module with `calibration` and `evaluation`, which give a quarter of the samples, and the others."""
    write = {
        SampleFormat.NAMED: _of_npz,
        SampleFormat.ARRAY: _of_npy,
        SampleFormat.TABLE: _of_table,
        SampleFormat.IMAGES: _of_images,
        SampleFormat.SOUNDS: _of_sounds,
    }[split.form]
    imports, constants, batches = write(split)
    standard = [*imports[0], "from pathlib import Path"]
    head = "\n".join([*standard, "", "import numpy as np", *imports[1]])
    text = _HEAD.format(
        file=split.path.rstrip("/").rpartition("/")[2].replace('"', "'").replace("\\", "/"),
        calibration=split_counts(split.count)[0],
        imports=head,
        constants="\n".join(constants),
        batches=batches,
    )
    if split.sequence is not None:
        by_name = "    cut = count // 4"
        if split.sequence:
            by_name = _NAMES[split.form].format(name=_text(split.sequence)) + _BY_NAME
        drawn = text.index("def chosen(")
        text = text[:drawn] + _SEQUENCES.format(cut=by_name)
        drawn_at_random = f"{split_counts(split.count)[0]} samples, drawn at random, are"
        text = text.replace(drawn_at_random, "the first quarter of the sequences is", 1)
    return text + (_cut_text(split.inputs[0]) if split.cut else "")


def cut_sounds(sound: Guess) -> str:
    """Text of a module with `cut` alone, for sounds whose sets the user gave."""
    head = '"""Brings sounds to the length that the model takes; the recipe names it."""\n\nimport numpy as np\n\n'
    return f"{head}{_length(sound)}\n{_cut_text(sound)}"


def split_counts(count: int) -> tuple[int, int]:
    """Samples for calibration and for evaluation of a file of `count`."""
    calibration = min(-(-count // _EVERY), _MOST_CALIBRATION)
    return calibration, count - calibration


_Parts = tuple[tuple[Sequence[str], Sequence[str]], Sequence[str], str]
"""Imports of the standard library and of others; constants; `batches`."""


def _of_npz(split: Split) -> _Parts:
    names = [*(one.name for one in split.inputs), *split.beside, *([split.sequence] if split.sequence else [])]
    constants = [
        _place("FILE", split.path),
        f"INPUTS = {_texts(names)}",
        f"TARGET = {_text(split.target) if split.target else 'None'}",
    ]
    dtypes = {one.name: one.dtype for one in split.inputs if one.name in split.converted}
    if dtypes:
        each = ", ".join(f"{_text(name)}: {_text(dtype)}" for name, dtype in dtypes.items())
        constants.append(f"DTYPES = {{{each}}}  # as the model takes them")
    how = "        arrays |= {name: arrays[name].astype(dtype) for name, dtype in DTYPES.items()}\n" if dtypes else ""
    return ((), ()), constants, _NPZ.replace("{converted}", how)


def _of_npy(split: Split) -> _Parts:
    dtype = f", {_text(split.inputs[0].dtype)}" if split.converted else ""
    constants = [_place("FILE", split.path), f"INPUT = {_text(split.inputs[0].name)}"]
    return ((), ()), constants, _NPY.replace("{dtype}", dtype)


def _of_table(split: Split) -> _Parts:
    if split.columns is None:
        raise TypeError(split)
    dtypes = {one.name: one.dtype for one in split.inputs}
    rows = [
        f"    {_text(name)}: ({_text(of) if isinstance(of, str) else _texts(of)}, {_text(dtypes[name])}),"
        for name, of in split.columns.inputs.items()
    ]
    rows += [f'    {_text(one)}: ({_text(one)}, "int64"),' for one in split.beside]
    classes = split.facts.get("classes") or ()
    constants = [
        _place("FILE", split.path),
        f"DELIMITER = {_text(chr(9) if split.path.lower().endswith('.tsv') else ',')}",
        "INPUTS = {  # name: its column, or those of a vector, and dtype",
        *rows,
        "}",
        f"TARGET = {_text(split.target) if split.target else 'None'}",
        f"CLASSES = {_texts(classes)}",
    ]
    if not split.sequence:
        return (("import csv",), ()), constants, _TABLE
    named = f"        feeds[{_text(split.sequence)}] = np.array([row[{_text(split.sequence)}] for row in some])\n"
    drawn = _TABLE.index("        yield (feeds")
    return (("import csv",), ()), constants, _TABLE[:drawn] + named + _TABLE[drawn:]


def _of_images(split: Split) -> _Parts:
    (image,) = split.inputs
    grey = (image.shape[0] if image_layout(image) == "NCHW" else image.shape[-1]) == 1
    read = _READ_IMAGE.format(
        name=image.name, mode=_text("L" if grey else "RGB"), reshaped="[:, :, None]" if grey else ""
    )
    suffixes = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
    imports = ((), ("from PIL import Image",))
    return imports, _constants_of_files(split, suffixes), _batches_of_files(split, "image") + read


def _of_sounds(split: Split) -> _Parts:
    (sound,) = split.inputs
    channel = len(sound.shape) == 2 and not split.cut
    read = _READ_SOUND.format(channel=" as [1, n]" if channel else "", reshaped="[None]" if channel else "")
    constants = [*_constants_of_files(split, (".wav",)), f"RATE = {split.facts['rate']}  # Hz"]
    if split.cut:
        constants.append(_length(sound))
    return ((), ("from scipy.io import wavfile",)), constants, _batches_of_files(split, "sound") + read


def _constants_of_files(split: Split, suffixes: Sequence[str]) -> list[str]:
    constants = [
        _place("FOLDER", split.path),
        f"SUFFIXES = ({', '.join(map(_text, suffixes))},)",
        f"INPUT = {_text(split.inputs[0].name)}",
    ]
    if split.facts["classes"]:
        constants.append(f"CLASSES = {_texts(split.facts['classes'])}  # in the order of the model's scores")
    return constants


def _batches_of_files(split: Split, what: str) -> str:
    if not split.facts["classes"]:
        text = _FILES.format(what=what, and_label="", pattern='"*"', feeds="feeds", yields="        yield feeds")
    else:
        label = "np.array([CLASSES.index(files[row].parent.name)])"
        text = _FILES.format(
            what=what,
            and_label=", and the index of its class",
            pattern='"*/*"',
            feeds="feeds",
            yields=f"        yield feeds, {label}",
        )
    return text.rstrip("\n") + "\n\n"


def _length(sound: Guess) -> str:
    return f"LENGTH = {sound.shape[-1]}  # samples of sound that the model takes: check"


def _cut_text(sound: Guess) -> str:
    channel = len(sound.shape) == 2
    return _CUT.format(shape="[N, 1, LENGTH]" if channel else "[N, LENGTH]", channel="1, " if channel else "")


def _place(name: str, path: str) -> str:
    return (
        f"{name} = Path({_text(path)})" if path.startswith("/") else f"{name} = Path(__file__).parent / {_text(path)}"
    )


def _texts(names: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, names))}]"


def _text(text: str) -> str:
    return json.dumps(text)
