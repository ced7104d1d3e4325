"""Frames and facts of videos that the tests encode, whole and damaged."""

import struct
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import av
import pytest
from PIL import Image

from medallion_defs.core.errors import ConfigurationError, TerminalError
from tests.media_files import make_covered_video, make_tone, make_video
from tests.unit.tasks.conftest import RunTask, output_of

ONE = 1 << 16  # as fixed-point number of a track's matrix
FASTSTART = {"a.mp4": {"movflags": "faststart"}}
VIDEO_TASKS = ("video_extract_frames", "video_probe")


def test_a_frame_every_second_is_stored_by_its_content(run_task: RunTask, tmp_path: Path) -> None:
    output = output_of(run_task("video_extract_frames", make_video(tmp_path / "a.mp4"), every_seconds=1.0))
    assert [frame["time_ms"] for frame in output["frames"]] == [0, 1_000, 2_000]
    assert (output["is_truncated"], output["damaged_packets"]) == (False, 0)
    for frame in output["frames"]:
        content = (tmp_path / "derived/video_extract_frames" / frame["file"]).read_bytes()
        assert frame["file"] == f"{sha256(content).hexdigest()}.jpg"
        assert (frame["sha256"], frame["bytes"]) == (sha256(content).hexdigest(), len(content))
        with Image.open(tmp_path / "derived/video_extract_frames" / frame["file"]) as image:
            assert image.size == (frame["width"], frame["height"]) == (160, 120)


def test_the_frames_show_what_was_to_be_seen_at_their_time(run_task: RunTask, tmp_path: Path) -> None:
    output = output_of(run_task("video_extract_frames", make_video(tmp_path / "a.mp4"), every_seconds=1.0, image_format="png"))
    for frame in output["frames"]:
        with Image.open(tmp_path / "derived/video_extract_frames" / frame["file"]) as image:
            # The square is 30 pixels wide and moves 3 pixels a frame, 10 frames a second.
            left = frame["time_ms"] // 1_000 * 30
            inside, outside = (image.convert("L").getpixel((left + place, 40)) for place in (15, 50))
            assert isinstance(inside, int)
            assert isinstance(outside, int)
            assert inside > 230 > 200 > outside


def test_the_same_video_gives_the_same_frames_again(run_task: RunTask, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4")
    first = output_of(run_task("video_extract_frames", video, every_seconds=0.5))
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "derived/video_extract_frames").iterdir()}
    assert output_of(run_task("video_extract_frames", video, every_seconds=0.5)) == first
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "derived/video_extract_frames").iterdir()} == files


def test_a_still_video_is_one_file_with_many_times(run_task: RunTask, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.avi", codec="rawvideo", sound=None, keep_still=True)
    output = output_of(run_task("video_extract_frames", video, every_seconds=1.0))
    assert [frame["time_ms"] for frame in output["frames"]] == [0, 1_000, 2_000]
    assert len({frame["file"] for frame in output["frames"]}) == 1


def test_key_frames_are_those_that_the_encoder_made_whole(run_task: RunTask, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", codec="mpeg4")
    output = output_of(run_task("video_extract_frames", video, frames="key"))
    # FFmpeg's MPEG-4 encoder makes every twelfth frame whole unless it is told otherwise.
    assert [frame["time_ms"] for frame in output["frames"]] == [0, 1_200, 2_400]


def test_a_long_video_is_cut_and_the_output_says_so(run_task: RunTask, tmp_path: Path) -> None:
    output = output_of(run_task("video_extract_frames", make_video(tmp_path / "a.mp4"), every_seconds=0.1, max_frames=4))
    assert [frame["time_ms"] for frame in output["frames"]] == [0, 100, 200, 300]
    assert output["is_truncated"] is True
    exact = output_of(run_task("video_extract_frames", make_video(tmp_path / "a.mp4"), every_seconds=1.0, max_frames=3))
    assert exact["is_truncated"] is False


def test_large_frames_are_made_smaller_in_proportion(run_task: RunTask, tmp_path: Path) -> None:
    output = output_of(run_task("video_extract_frames", make_video(tmp_path / "a.mp4"), max_edge_px=80))
    assert [(frame["width"], frame["height"]) for frame in output["frames"]] == [(80, 60)]


def test_a_video_held_upright_is_shown_upright(run_task: RunTask, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", sound=None)
    # As phones write it: the picture lies on its side, and the track's matrix turns it by 90 degrees clockwise.
    identity, clockwise = (struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) for a, b, c, d in ((ONE, 0, 0, ONE), (0, ONE, -ONE, 0)))
    content = video.read_bytes()
    track = content.index(b"tkhd")
    video.write_bytes(content[:track] + content[track:].replace(identity, clockwise, 1))
    output = output_of(run_task("video_extract_frames", video, image_format="png"))
    [frame] = output["frames"]
    with Image.open(tmp_path / "derived/video_extract_frames" / frame["file"]) as image:
        assert image.size == (frame["width"], frame["height"]) == (120, 160)
        # The square was at the left, 20 to 60 from the top; now it is at the top, 20 to 60 from the right.
        inside, outside = (image.convert("L").getpixel((place, 15)) for place in (80, 20))
        assert isinstance(inside, int)
        assert isinstance(outside, int)
        assert inside > 230 > 200 > outside
    assert output_of(run_task("video_probe", video))["rotation_degrees"] == -90


def test_the_facts_of_a_video(run_task: RunTask, tmp_path: Path) -> None:
    output = output_of(run_task("video_probe", make_video(tmp_path / "a.mp4")))
    assert output["bit_rate"] > 0
    assert {**output, "bit_rate": None} == {
        "container": "mov,mp4,m4a,3gp,3g2,mj2", "duration_ms": 3_000, "bit_rate": None, "codec": "h264", "width": 160, "height": 120,
        "frame_rate": 10.0, "frames": 30, "rotation_degrees": 0, "audio_codecs": ["aac"], "subtitles": 0,
        "missing_ms": 0, "damaged_packets": 0,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["a.mkv", "a.mov", "a.avi", "a.flv", "a.webm", "a.mpg"])
def test_no_format_says_of_a_whole_video_that_something_is_missing(run_task: RunTask, tmp_path: Path, name: str) -> None:
    codec, rate = {"a.flv": ("flv", 10), "a.webm": ("libvpx", 10), "a.mpg": ("mpeg1video", 25)}.get(name, ("mpeg4", 10))
    video = make_video(tmp_path / name, codec=codec, rate=rate, sound=None)
    probed = output_of(run_task("video_probe", video))
    assert probed["duration_ms"] == pytest.approx(3_000, abs=100)
    assert (probed["missing_ms"] or 0, probed["damaged_packets"], probed["frames"]) == (0, 0, 3 * rate)
    assert output_of(run_task("video_extract_frames", video))["damaged_packets"] == 0


def test_a_recording_that_starts_at_an_hour_is_not_an_hour_long(run_task: RunTask, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mkv", codec="mpeg4", sound=None, start_seconds=3_600)
    probed = output_of(run_task("video_probe", video))
    assert (probed["duration_ms"], probed["missing_ms"]) == (3_000, 0)
    assert probed["bit_rate"] == round(video.stat().st_size * 8 / 3)
    frames = output_of(run_task("video_extract_frames", video, every_seconds=1.0))["frames"]
    assert [frame["time_ms"] for frame in frames] == [0, 1_000, 2_000]


def test_joined_videos_are_as_long_as_their_parts(run_task: RunTask, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mpg", codec="mpeg1video", sound=None, rate=25)
    video.write_bytes(video.read_bytes() * 3)
    assert output_of(run_task("video_probe", video))["duration_ms"] == 9_000
    frames = output_of(run_task("video_extract_frames", video, every_seconds=1.0))["frames"]
    assert [frame["time_ms"] for frame in frames] == list(range(0, 9_000, 1_000))


def test_an_attached_picture_is_not_the_film(run_task: RunTask, tmp_path: Path) -> None:
    video = make_covered_video(tmp_path / "a.mp4")
    with av.open(str(video)) as container:
        assert [stream.codec_context.name for stream in container.streams.video] == ["mjpeg", "mpeg4"]
    probed = output_of(run_task("video_probe", video))
    assert (probed["codec"], probed["width"], probed["height"], probed["frame_rate"]) == ("mpeg4", 160, 120, 10.0)
    frames = output_of(run_task("video_extract_frames", video, every_seconds=1.0))["frames"]
    assert [(frame["time_ms"], frame["width"]) for frame in frames] == [(0, 160), (1_000, 160), (2_000, 160)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.flv"])
def test_a_video_that_is_cut_off_says_how_much_is_missing(run_task: RunTask, tmp_path: Path, name: str) -> None:
    video = make_video(tmp_path / name, codec="flv" if name == "a.flv" else "mpeg4", sound=None, options=FASTSTART.get(name))
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 3 // 4])
    probed = output_of(run_task("video_probe", video))
    assert probed["duration_ms"] + probed["missing_ms"] == pytest.approx(3_000, abs=200)
    assert 5 < probed["frames"] < 28
    output = output_of(run_task("video_extract_frames", video, every_seconds=0.1))
    assert output["damaged_packets"] == probed["damaged_packets"]
    assert len(output["frames"]) + output["damaged_packets"] == pytest.approx(30, abs=3)


def test_what_a_decoder_refuses_is_counted_and_left_out(run_task: RunTask, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", sound=None)
    with av.open(str(video)) as container:
        packets = [(packet.pos or 0, packet.size) for packet in container.demux() if packet.size]
    content = bytearray(video.read_bytes())
    for place, size in packets[10:12]:
        content[place : place + size] = b"\xff" * size
    video.write_bytes(content)
    output = output_of(run_task("video_extract_frames", video, every_seconds=0.1))
    assert (len(output["frames"]), output["damaged_packets"]) == (28, 2)


def test_of_what_comes_after_the_last_frame_that_is_kept_nothing_is_said(run_task: RunTask, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mp4", codec="mpeg4", sound=None, options=FASTSTART["a.mp4"])
    cut_in_half(video)
    output = output_of(run_task("video_extract_frames", video, every_seconds=0.1, max_frames=2))
    assert (output["is_truncated"], output["damaged_packets"]) == (True, 0)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_text(path: Path) -> None:
    path.write_text("no video at all", encoding="utf-8")


@pytest.mark.parametrize("task", VIDEO_TASKS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [(cut_in_half, r"a\.mp4 cannot be decoded"), (empty, r"a\.mp4 has no bytes"), (replace_by_text, r"a\.mp4 cannot be decoded")],
)
def test_a_damaged_video_fails_for_good_with_a_sentence(
    run_task: RunTask, tmp_path: Path, task: str, damage: Callable[[Path], None], message: str
) -> None:
    video = make_video(tmp_path / "a.mp4")
    damage(video)
    result = run_task(task, video)
    assert isinstance(result.error, TerminalError)
    assert result.output is None
    with pytest.raises(TerminalError, match=message):
        raise result.error


@pytest.mark.parametrize("task", VIDEO_TASKS)
def test_sound_alone_is_no_video(run_task: RunTask, tmp_path: Path, task: str) -> None:
    result = run_task(task, make_tone(tmp_path / "a.m4a", codec="aac"))
    assert isinstance(result.error, TerminalError)
    assert "has no video stream" in str(result.error)


def test_a_video_cut_off_at_its_end_gives_the_frames_that_are_there(run_task: RunTask, tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mkv", sound=None, codec="mpeg4")
    cut_in_half(video)
    output = output_of(run_task("video_extract_frames", video, every_seconds=0.1))
    assert 5 < len(output["frames"]) < 30


@pytest.mark.parametrize("changes", [{"every_seconds": 0.0}, {"frames": "some"}, {"every_second": 1.0}, {"quality": "high"}])
def test_parameters_that_do_not_fit_are_an_error_of_configuration(run_task: RunTask, tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(changes))):
        run_task("video_extract_frames", make_video(tmp_path / "a.mp4"), **changes)


def test_a_file_that_is_gone_fails_for_good(run_task: RunTask, tmp_path: Path) -> None:
    result = run_task("video_probe", tmp_path / "gone.mp4")
    assert isinstance(result.error, TerminalError)
    assert "there is no file" in str(result.error)
