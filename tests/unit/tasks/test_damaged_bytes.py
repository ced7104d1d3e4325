"""Media damaged at random: a decoder may refuse them in any way, and the task still answers with an output or with a sentence."""

from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from medallion_defs.core.errors import TerminalError
from tests.media_files import image_bytes, make_tone, make_video
from tests.unit.tasks.conftest import RunTask

ROUNDS = 30


def damage(content: bytes, random: Random) -> bytes:
    """Cut the end off, or overwrite some places."""
    if random.random() < 0.25:
        return content[: random.randrange(1, len(content))]
    damaged = bytearray(content)
    for _ in range(random.choice((1, 5, 50))):
        place = random.randrange(len(damaged))
        damaged[place : place + 4] = random.choice((random.randbytes(4), b"\xff" * 4, b"\0" * 4))
    return bytes(damaged)


@pytest.mark.parametrize(
    ("name", "make", "tasks"),
    [
        ("a.mp4", lambda path: make_video(path, seconds=1), ("video_probe", "video_extract_frames")),
        ("a.mkv", lambda path: make_video(path, seconds=1, codec="mpeg4"), ("video_probe", "video_extract_frames")),
        ("a.mp3", lambda path: make_tone(path, codec="libmp3lame"), ("audio_probe",)),
        ("a.flac", lambda path: make_tone(path, codec="flac"), ("audio_probe",)),
        ("a.m4a", lambda path: make_tone(path, codec="aac"), ("audio_probe",)),
        ("a.png", lambda path: path.write_bytes(image_bytes("PNG")), ("image_thumbnail_phash",)),
        ("a.jpg", lambda path: path.write_bytes(image_bytes("JPEG")), ("image_thumbnail_phash",)),
        ("a.tiff", lambda path: path.write_bytes(image_bytes("TIFF")), ("image_thumbnail_phash",)),
        ("a.avif", lambda path: path.write_bytes(image_bytes("AVIF")), ("image_thumbnail_phash",)),
    ],
)
def test_damage_anywhere_gives_an_output_or_a_sentence(
    run_task: RunTask, tmp_path: Path, name: str, make: Callable[[Path], object], tasks: tuple[str, ...]
) -> None:
    path = tmp_path / name
    make(path)
    whole, random = path.read_bytes(), Random(name)
    for _ in range(ROUNDS):
        path.write_bytes(damage(whole, random))
        for task in tasks:
            result = run_task(task, path)
            assert (result.output is None) != (result.error is None)
            assert result.error is None or (isinstance(result.error, TerminalError) and name in str(result.error))
