"""Facts of sounds: of those that the tests make, and of real speech."""

from pathlib import Path

import pytest

from medallion_defs.core.errors import TerminalError
from tests.media_files import image_bytes, make_tone
from tests.unit.tasks.conftest import RunTask, output_of


def test_the_facts_of_real_speech(run_task: RunTask, shared_data: Path) -> None:
    output = output_of(run_task("audio_probe", shared_data / "media/jfk.flac"))
    assert (output["container"], output["duration_ms"], output["has_picture"]) == ("flac", 11_000, False)
    [stream] = output["streams"]
    assert (stream["codec"], stream["channels"], stream["layout"], stream["sample_rate_hz"]) == ("flac", 2, "stereo", 44_100)


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [("a.wav", "pcm_s16le", 16_000), ("a.mp3", "libmp3lame", 44_100), ("a.m4a", "aac", 16_000), ("a.opus", "libopus", 48_000)],
)
def test_the_facts_of_a_tone(run_task: RunTask, tmp_path: Path, name: str, codec: str, rate: int) -> None:
    output = output_of(run_task("audio_probe", make_tone(tmp_path / name, codec=codec, rate=rate, seconds=2.0)))
    [stream] = output["streams"]
    assert stream["codec"] == codec.removeprefix("lib").replace("mp3lame", "mp3")
    assert (stream["channels"], stream["sample_rate_hz"], stream["language"]) == (1, rate, None)
    assert output["duration_ms"] == pytest.approx(2_000, abs=150)  # encoders pad to whole frames


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "has no bytes"), (b"fLaC" + b"\0" * 100, "cannot be decoded"), (image_bytes("PNG"), "has no audio stream")],
)
def test_what_is_no_sound_fails_for_good_with_a_sentence(run_task: RunTask, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "speech.flac"
    path.write_bytes(content)
    result = run_task("audio_probe", path)
    assert isinstance(result.error, TerminalError)
    assert f"speech.flac {message}" in str(result.error)
