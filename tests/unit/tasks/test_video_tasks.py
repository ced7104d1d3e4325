"""Frames and facts of videos that the tests encode, whole and damaged."""

import struct
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from PIL import Image

from medallion_defs.core.errors import ConfigurationError, TerminalError
from tests.media_files import make_tone, make_video
from tests.unit.tasks.conftest import RunTask, output_of

ONE = 1 << 16  # as fixed-point number of a track's matrix
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
    }  # fmt: skip


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
