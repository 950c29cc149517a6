"""Folders of images and sounds: their order, labels and arrays, and every file that is not as it should be."""

from __future__ import annotations

import os
import struct
import wave
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edgeport.calibration.data import (
    ArraySamples,
    FolderSamples,
    check_disjoint,
    digest_folder,
    list_folder,
    sole,
    wanted,
)
from edgeport.calibration.data.audio import read_sound
from edgeport.calibration.data.images import read_image
from edgeport.contracts import Preprocessing, PreprocessingFunction, TensorSpec
from edgeport.errors import DependencyError, SamplesError

Image = pytest.importorskip("PIL.Image", reason="it decodes images")

PIXELS = TensorSpec(name="pixels", dtype="uint8", shape=("batch", 6, 8, 3))
PLANES = TensorSpec(
    name="pixels", dtype="float32", shape=("batch", 3, 4, 4), preprocessing=Preprocessing(resize=(4, 4), scale=1 / 255)
)
SOUND = TensorSpec(name="sound", dtype="float32", shape=("batch", 100))


def want(spec: TensorSpec):
    return sole(wanted([spec], raw=True), "a folder")


def picture(path: Path, seed: int = 0, size: tuple[int, int] = (6, 8), mode: str = "RGB") -> np.ndarray:
    channels = {"RGB": (3,), "L": (), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, *channels), np.uint8)
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(pixels, mode).save(path) if mode != "L" else Image.fromarray(pixels).save(path)
    return pixels


def sound(path: Path, values: np.ndarray, rate: int = 16000, channels: int = 1) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(values.dtype.itemsize)
        file.setframerate(rate)
        file.writeframes(values.tobytes())


def noise(seed: int = 0, n: int = 100) -> np.ndarray:
    return np.random.default_rng(seed).integers(-(2**15), 2**15, n).astype(np.int16)


def everything(samples):
    batches = list(samples)
    name = next(iter(batches[0].feeds))
    targets = [batch.target for batch in batches if batch.target is not None]
    return np.concatenate([batch.feeds[name] for batch in batches]), np.concatenate(targets) if targets else None


def test_images_come_in_the_order_of_their_names_a_batch_at_a_time(tmp_path):
    kept = {name: picture(tmp_path / name, seed) for seed, name in enumerate(["b.png", "a.png", "C.bmp", "10.png"])}
    (tmp_path / ".DS_Store").write_bytes(b"x")
    (tmp_path / "Thumbs.db").write_bytes(b"x")

    samples = FolderSamples(tmp_path, want(PIXELS), batch_size=3)

    assert [len(batch) for batch in samples] == [3, 1]
    assert len(samples) == 4
    images, target = everything(samples)
    assert target is None
    assert images.dtype == np.uint8
    for image, name in zip(images, ["10.png", "C.bmp", "a.png", "b.png"], strict=True):
        assert np.array_equal(image, kept[name])


def test_an_input_of_floats_gets_the_numbers_as_they_are_stored(tmp_path):
    pixels = picture(tmp_path / "a.png")
    floats = TensorSpec(name="x", dtype="float32", shape=("n", "h", "w", 3))

    images, _ = everything(FolderSamples(tmp_path, want(floats)))

    assert images.dtype == np.float32
    assert np.array_equal(images[0], pixels.astype(np.float32))


def test_class_folders_are_the_labels(tmp_path):
    for index, name in enumerate(["dog/1.png", "cat/2.png", "cat/1.png"]):
        picture(tmp_path / name, index)
    (tmp_path / "bird").mkdir()

    by_name = FolderSamples(tmp_path, want(PIXELS))
    given = FolderSamples(tmp_path, want(PIXELS), classes=("dog", "emu", "cat", "bird"))
    shown = FolderSamples(tmp_path, want(PIXELS), classes=("Sparrow", "Tabby", "Poodle"))

    assert everything(by_name)[1].tolist() == [1, 1, 2]
    assert everything(given)[1].tolist() == [2, 2, 0]
    assert everything(shown)[1].tolist() == [1, 1, 2]
    with pytest.raises(SamplesError, match="class folder 'bird', which is none of the 2 class names"):
        FolderSamples(tmp_path, want(PIXELS), classes=("cat", "dog"))


def test_images_of_any_size_are_for_preprocessing(tmp_path):
    picture(tmp_path / "a.png", 0, (6, 8))
    picture(tmp_path / "b.png", 1, (5, 9))

    shapes = [batch.feeds["pixels"].shape for batch in FolderSamples(tmp_path, want(PLANES))]

    assert shapes == [(1, 6, 8, 3), (1, 5, 9, 3)]


@pytest.mark.parametrize(("channels", "mode"), [(1, "RGB"), (1, "L"), (3, "L"), (3, "RGBA")], ids=str)
def test_colours_are_those_of_the_input(tmp_path, channels, mode):
    picture(tmp_path / "a.png", mode=mode)
    spec = TensorSpec(name="x", dtype="uint8", shape=("n", 6, 8, channels))

    assert everything(FolderSamples(tmp_path, want(spec)))[0].shape == (1, 6, 8, channels)


def test_the_same_picture_under_another_name_is_in_both_sets(tmp_path):
    pixels = picture(tmp_path / "calibration" / "a.png", 1)
    picture(tmp_path / "calibration" / "b.png", 2)
    picture(tmp_path / "evaluation" / "dog" / "z.bmp", 1)
    one, other = (FolderSamples(tmp_path / name, want(PIXELS)) for name in ("calibration", "evaluation"))

    with pytest.raises(SamplesError, match="1 of 1 evaluation samples"):
        check_disjoint(one, other)
    with pytest.raises(SamplesError, match="1 of 1 evaluation samples"):
        check_disjoint(one, ArraySamples({"pixels": pixels[None]}))


def test_the_digest_tells_names_contents_and_classes(tmp_path):
    picture(tmp_path / "a" / "1.png", 1)
    picture(tmp_path / "b" / "1.png", 2)
    first = digest_folder(list_folder(tmp_path))
    assert digest_folder(list_folder(tmp_path)) == first

    (tmp_path / "a" / "1.png").rename(tmp_path / "a" / "2.png")
    renamed = digest_folder(list_folder(tmp_path))
    picture(tmp_path / "a" / "2.png", 3)
    changed = digest_folder(list_folder(tmp_path))
    (tmp_path / "c").mkdir()

    assert len({first, renamed, changed, digest_folder(list_folder(tmp_path))}) == 4


@dataclass(frozen=True, kw_only=True)
class Width:
    id: str
    stored: np.ndarray
    values: list[float] = field(default_factory=list)


WIDTHS = [
    Width(id="8 bits", stored=np.array([0, 128, 192], np.uint8), values=[-1, 0, 0.5]),
    Width(id="16 bits", stored=np.array([-(2**15), 0, 2**14], np.int16), values=[-1, 0, 0.5]),
    Width(id="32 bits", stored=np.array([-(2**31), 0, 2**30], np.int32), values=[-1, 0, 0.5]),
]


@pytest.mark.parametrize("width", WIDTHS, ids=lambda width: width.id)
def test_sounds_are_floats_from_minus_one_to_one(tmp_path, width):
    sound(tmp_path / "a.wav", width.stored, rate=8000)

    values, rate = read_sound(tmp_path / "a.wav", "a.wav")

    assert (values.dtype, rate) == (np.float32, 8000)
    assert values.tolist() == width.values


def test_sounds_of_24_bits_and_floats_are_read_too(tmp_path):
    from scipy.io import wavfile

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 3, 16000, 0, "NONE", ""))
        file.writeframes(b"\x00\x00\x80" + b"\x00\x00\x40")
    wavfile.write(tmp_path / "b.wav", 16000, np.array([0.25, -1.0], np.float32))

    assert read_sound(tmp_path / "a.wav", "a.wav")[0].tolist() == [-1, 0.5]
    assert read_sound(tmp_path / "b.wav", "b.wav")[0].tolist() == [0.25, -1]


def test_a_folder_of_sounds_is_a_set_with_speakers_as_labels(tmp_path):
    for index, name in enumerate(["anna/1.wav", "bert/1.wav", "bert/2.wav"]):
        sound(tmp_path / name, noise(index))
    one_channel = TensorSpec(name="sound", dtype="float32", shape=("batch", 1, "time"))

    sounds, speakers = everything(FolderSamples(tmp_path, want(SOUND), sample_rate=16000))

    assert sounds.shape == (3, 100)
    assert speakers.tolist() == [0, 1, 1]
    assert np.abs(sounds).max() <= 1
    assert everything(FolderSamples(tmp_path, want(one_channel)))[0].shape == (3, 1, 100)


def test_a_sound_goes_to_a_function_whatever_its_length(tmp_path):
    sound(tmp_path / "a.wav", noise(0, 100))
    sound(tmp_path / "b.wav", noise(1, 90))
    function = TensorSpec(
        name="mel", dtype="float32", shape=("batch", 40), preprocessing=PreprocessingFunction(function="mel:of")
    )

    assert [batch.feeds["mel"].shape for batch in FolderSamples(tmp_path, want(function))] == [(1, 100), (1, 90)]


def png_of(width: int, height: int) -> bytes:
    """A file of a few bytes that says it is so large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def truncated(path: Path) -> None:
    picture(path.with_suffix(".jpg"), size=(64, 64))
    whole = path.with_suffix(".jpg").read_bytes()
    path.with_suffix(".jpg").unlink()
    path.write_bytes(whole[: len(whole) // 2])


def animated(path: Path) -> None:
    frames = [Image.fromarray(np.full((4, 4, 3), n, np.uint8)) for n in (0, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


BAD_IMAGES = [
    pytest.param("a.jpg", truncated, "'a.jpg'; found a damaged image", id="truncated"),
    pytest.param("a.png", lambda path: path.write_bytes(b"GIF89a no"), "no image of a known format", id="no image"),
    pytest.param("a.png", lambda path: path.write_bytes(b""), "no image of a known format", id="empty file"),
    pytest.param("a.png", lambda path: path.write_bytes(png_of(100_000, 9_000)), "pixels", id="bomb"),
    pytest.param("a.png", lambda path: path.write_bytes(png_of(10_000, 6_000)), "10000 x 6000 pixels", id="too large"),
    pytest.param("a.png", lambda path: path.write_bytes(png_of(8, 8)), "a damaged image", id="no pixels"),
    pytest.param("a.png", lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "known format", id="a program"),
    pytest.param(
        "a.png",
        lambda path: Image.fromarray(np.zeros((4, 4), np.uint16)).save(path),
        "more than 8 bits per channel",
        id="16 bits",
    ),
    pytest.param("a.webp", animated, "several pictures in one file", id="animated"),
]


@pytest.mark.parametrize(("name", "write", "says"), BAD_IMAGES)
def test_a_file_that_is_no_good_image_is_named(tmp_path, name, write, says):
    write(tmp_path / name)

    with pytest.raises(SamplesError, match=says) as caught:
        list(FolderSamples(tmp_path, want(PLANES)))
    assert repr(name) in caught.value.asked


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
    picture(tmp_path / "a.png")
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)

    with pytest.raises(DependencyError, match=r"pip install 'edgeport\[images\]'"):
        read_image(tmp_path / "a.png", "a.png")


def bad_wav(content: bytes):
    return lambda path: path.write_bytes(content)


def cut_wav(path: Path) -> None:
    sound(path, noise(0, 1000))
    path.write_bytes(path.read_bytes()[:-500])


BAD_SOUNDS = [
    pytest.param(bad_wav(b""), "no WAV file", id="empty file"),
    pytest.param(bad_wav(b"RIFF\xff\xff\xff\xffWAVEfmt "), "no WAV file", id="header only"),
    pytest.param(bad_wav(b"ID3 this is an mp3"), "no WAV file", id="another format"),
    pytest.param(cut_wav, "no WAV file, or a damaged one", id="truncated"),
    pytest.param(lambda path: sound(path, noise(), channels=2), "2 channels", id="stereo"),
    pytest.param(lambda path: sound(path, noise(0, 0)), "no sample in it", id="no sound"),
]


@pytest.mark.parametrize(("write", "says"), BAD_SOUNDS)
def test_a_file_that_is_no_good_sound_is_named(tmp_path, write, says):
    write(tmp_path / "a.wav")

    with pytest.raises(SamplesError, match=says) as caught:
        list(FolderSamples(tmp_path, want(SOUND)))
    assert "'a.wav'" in caught.value.asked


def test_sounds_of_another_rate_are_named(tmp_path):
    sound(tmp_path / "a.wav", noise(0), rate=16000)
    sound(tmp_path / "b.wav", noise(1), rate=8000)

    with pytest.raises(SamplesError, match=r"8000 Hz, not 16000 as in 'a\.wav'"):
        list(FolderSamples(tmp_path, want(SOUND)))
    with pytest.raises(SamplesError, match=r"'a.wav' as a sample; found 16000 Hz, not 8000 as \[data\] sample_rate"):
        list(FolderSamples(tmp_path, want(SOUND), sample_rate=8000))


UNFIT = [
    pytest.param(
        [("a.png", (6, 8)), ("b.png", (5, 8))],
        PIXELS,
        r"\[5, 8, 3\] pixels \[H, W, C\], and \[6, 8, 3\] in 'a.png'; declare how pixels become the input",
        id="mixed sizes",
    ),
    pytest.param(
        [("a.png", (6, 8))],
        TensorSpec(name="pixels", dtype="float32", shape=("batch", 3, 6, 8)),
        r"takes float32 \[batch, 3, 6, 8\]; declare how pixels become the input: \[inputs.pixels.preprocess\]",
        id="channels first",
    ),
    pytest.param(
        [("a.png", (6, 8))],
        TensorSpec(name="pixels", dtype="int64", shape=("batch", 6, 8, 3)),
        "takes int64",
        id="dtype",
    ),
]


@pytest.mark.parametrize(("files", "spec", "says"), UNFIT)
def test_images_that_need_preprocessing_say_how_it_is_declared(tmp_path, files, spec, says):
    for index, (name, size) in enumerate(files):
        picture(tmp_path / name, index, size)

    with pytest.raises(SamplesError, match=says):
        list(FolderSamples(tmp_path, want(spec)))


def test_sounds_of_two_lengths_say_what_to_do(tmp_path):
    sound(tmp_path / "a.wav", noise(0, 100))
    sound(tmp_path / "b.wav", noise(1, 90))

    with pytest.raises(SamplesError, match=r"\[90\] samples, and \[100\] in 'a.wav'; cut or pad them in a function"):
        list(FolderSamples(tmp_path, want(SOUND)))


def linked_out(folder: Path) -> None:
    picture(folder.parent / "secret.png")
    (folder / "a.png").symlink_to(folder.parent / "secret.png")


def linked_folder(folder: Path) -> None:
    picture(folder.parent / "elsewhere" / "a.png")
    (folder / "cat").symlink_to(folder.parent / "elsewhere")


def dangling(folder: Path) -> None:
    (folder / "a.png").symlink_to("nowhere.png")


def looped(folder: Path) -> None:
    (folder / "a.png").symlink_to("b.png")
    (folder / "b.png").symlink_to("a.png")


def both(folder: Path) -> None:
    picture(folder / "a.png")
    sound(folder / "b.wav", noise())


def beside(folder: Path) -> None:
    picture(folder / "cat" / "a.png")
    picture(folder / "b.png")


FOLDERS = [
    pytest.param(lambda folder: None, "empty", "no file in it", id="empty"),
    pytest.param(lambda folder: (folder / "cat").mkdir(), "empty", "no file in it", id="empty class"),
    pytest.param(lambda folder: (folder / "notes.txt").touch(), "file", "'notes.txt', neither an image", id="text"),
    pytest.param(linked_out, "link", "'a.png', a link out of the folder", id="link out"),
    pytest.param(linked_folder, "link", "'cat', a link to a folder", id="linked folder"),
    pytest.param(dangling, "file", "'a.png': No such file", id="dangling link"),
    pytest.param(looped, "file", "'a.png': ", id="loop of links"),
    pytest.param(lambda folder: os.mkfifo(folder / "a.png"), "file", "'a.png', which is no regular file", id="pipe"),
    pytest.param(both, "file", "images and sounds: ", id="images and sounds"),
    pytest.param(beside, "file", "the file 'b.png' beside the folder 'cat'", id="file beside folders"),
    pytest.param(lambda folder: picture(folder / "a" / "b" / "c.png"), "file", "a folder a/'b'", id="too deep"),
    pytest.param(
        lambda folder: (folder / "a\n\x1b[31m.exe").touch(), "file", r"'a\\n\\x1b\[31m.exe'", id="hostile name"
    ),
]


@pytest.mark.parametrize(("make", "problem", "says"), FOLDERS)
def test_a_folder_that_is_not_as_it_should_be_is_refused_unread(tmp_path, make, problem, says):
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder)

    with pytest.raises(SamplesError, match=says) as caught:
        list_folder(folder)
    assert caught.value.details["problem"] == problem


def test_names_of_any_bytes_are_read(tmp_path):
    names = [b"-rf.png", b"$(touch x).png", b"a\nb.png", b"caf\xe9.png", "\N{SNOWMAN}.png".encode()]
    for seed, name in enumerate(names):
        picture(tmp_path / "plain.png", seed)
        (tmp_path / "plain.png").rename(tmp_path / os.fsdecode(name))

    samples = FolderSamples(tmp_path, want(PIXELS))

    assert len(everything(samples)[0]) == len(names)
    assert len(samples.digests()) == len(names)
    assert digest_folder(list_folder(tmp_path))


def test_a_link_within_the_folder_is_a_file_like_others(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")

    assert len(FolderSamples(tmp_path, want(PIXELS))) == 2


def test_memory_is_that_of_a_batch(tmp_path):
    import tracemalloc

    for index in range(40):
        picture(tmp_path / f"{index}.png", index, (128, 128))
    samples = FolderSamples(tmp_path, want(PLANES), batch_size=2)
    next(iter(samples))  # loads Pillow's parts

    tracemalloc.start()
    assert sum(len(batch) for batch in samples) == 40
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 10 * 128 * 128 * 3, "40 images are 4 times as much"
