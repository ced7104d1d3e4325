"""Facts of sounds: of those that the tests make, and of real speech."""

from pathlib import Path

import av
import pytest

from medallion_defs.core.errors import TerminalError
from tests.media_files import image_bytes, make_tone, silent_layer_1
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
    ("name", "codec", "rate"),
    [
        ("a.wav", "pcm_s16le", 16_000), ("a.avi", "pcm_s16le", 16_000), ("a.flac", "flac", 16_000), ("a.mp3", "libmp3lame", 44_100),
        ("a.opus", "libopus", 48_000), ("a.mkv", "aac", 16_000), ("a.webm", "libopus", 48_000),
    ],
)  # fmt: skip
def test_the_run_up_and_the_padding_of_an_encoder_are_not_played(
    run_task: RunTask, tmp_path: Path, name: str, codec: str, rate: int
) -> None:
    sound = make_tone(tmp_path / name, codec=codec, rate=rate, seconds=2.0)
    output = output_of(run_task("audio_probe", sound))
    with av.open(str(sound)) as container:
        decoded = sum(frame.samples for frame in container.decode(audio=0))
    assert output["duration_ms"] == pytest.approx(decoded / rate * 1_000, abs=3)  # Matroska rounds to milliseconds
    assert output["bit_rate"] == pytest.approx(sound.stat().st_size * 8_000 / output["duration_ms"], rel=0.001)
    assert (output["missing_ms"] or 0, output["damaged_packets"]) == (0, 0)


def test_a_duration_is_what_the_packets_say_and_not_what_the_first_of_them_promise(run_task: RunTask, tmp_path: Path) -> None:
    sound = make_tone(tmp_path / "a.aac", codec="aac", rate=44_100, seconds=8.0, loud_after=4.0)
    with av.open(str(sound)) as container:
        assert (container.duration or 0) > 10_000_000  # FFmpeg's estimate, by the bit rate of the silence
    output = output_of(run_task("audio_probe", sound))
    assert output["duration_ms"] == pytest.approx(8_000, abs=100)
    assert output["streams"][0]["bit_rate"] == pytest.approx(sound.stat().st_size, rel=0.05)  # 8 bits a byte, 8 seconds
    assert output["missing_ms"] is None


@pytest.mark.parametrize(("name", "codec", "rate"), [("a.mp3", "libmp3lame", 44_100), ("a.opus", "libopus", 48_000)])
def test_joined_sounds_are_as_long_as_their_parts(run_task: RunTask, tmp_path: Path, name: str, codec: str, rate: int) -> None:
    quiet = make_tone(tmp_path / name, codec=codec, rate=rate, seconds=2.0, loud_after=2.0).read_bytes()
    loud = make_tone(tmp_path / name, codec=codec, rate=rate, seconds=2.0).read_bytes()
    (tmp_path / name).write_bytes(quiet + loud * 2)
    assert output_of(run_task("audio_probe", tmp_path / name))["duration_ms"] == pytest.approx(6_000, abs=150)


@pytest.mark.parametrize("name", ["layer2.mp2", "layer1.mp1", "mpeg2.5.mp3"])
def test_every_layer_and_version_of_mpeg_audio_is_probed(run_task: RunTask, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "layer1.mp1":
        path.write_bytes(silent_layer_1(250))  # of 384 samples each
    else:
        rates = {"layer2.mp2": ("mp2", 24_000), "mpeg2.5.mp3": ("libmp3lame", 8_000)}
        make_tone(path, codec=rates[name][0], rate=rates[name][1], seconds=2.0)
    output = output_of(run_task("audio_probe", path))
    assert output["duration_ms"] == pytest.approx(2_000, abs=150)
    assert output["streams"][0]["codec"] == {"layer2.mp2": "mp2", "layer1.mp1": "mp1", "mpeg2.5.mp3": "mp3"}[name]


@pytest.mark.parametrize("name", ["a.flac", "a.mkv"])
def test_a_sound_that_is_cut_off_says_how_much_is_missing(run_task: RunTask, tmp_path: Path, name: str) -> None:
    sound = make_tone(tmp_path / name, codec="flac", seconds=4.0)
    sound.write_bytes(sound.read_bytes()[: sound.stat().st_size // 2])
    output = output_of(run_task("audio_probe", sound))
    assert output["missing_ms"] > 500
    assert output["duration_ms"] + output["missing_ms"] == pytest.approx(4_000, abs=100)
    assert output["damaged_packets"] > 0


@pytest.mark.parametrize("share", [0.5, 0.999])
@pytest.mark.parametrize(("name", "codec", "rate"), [("a.mp3", "libmp3lame", 44_100), ("b.mp3", "libmp3lame", 16_000)])
def test_an_mp3_that_is_cut_off_says_how_much_is_missing_of_what_it_announces(
    run_task: RunTask, tmp_path: Path, name: str, codec: str, rate: int, share: float
) -> None:
    sound = make_tone(tmp_path / name, codec=codec, rate=rate, seconds=4.0)
    whole = output_of(run_task("audio_probe", sound))
    assert (whole["missing_ms"], whole["damaged_packets"]) == (0, 0)
    sound.write_bytes(sound.read_bytes()[: int(sound.stat().st_size * share)])
    output = output_of(run_task("audio_probe", sound))
    assert output["missing_ms"] == pytest.approx(4_000 * (1 - share), abs=200)
    frames = output["missing_ms"] * rate / (1_152_000 if rate == 44_100 else 576_000)
    assert output["damaged_packets"] == pytest.approx(frames, abs=1)


@pytest.mark.parametrize("cut", [5, 20_005])
@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [("a.aac", "aac", 44_100), ("a.opus", "libopus", 48_000), ("a.mp2", "mp2", 44_100)],
)
def test_a_sound_that_announces_no_end_says_that_its_last_piece_is_cut(
    run_task: RunTask, tmp_path: Path, name: str, codec: str, rate: int, cut: int
) -> None:
    sound = make_tone(tmp_path / name, codec=codec, rate=rate, seconds=4.0)
    assert output_of(run_task("audio_probe", sound))["damaged_packets"] == 0
    sound.write_bytes(sound.read_bytes()[:-cut])
    output = output_of(run_task("audio_probe", sound))
    assert (output["missing_ms"], output["damaged_packets"]) == (None, 1)


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
