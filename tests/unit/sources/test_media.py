"""Media: what a file is, its bytes say."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from medallion_defs.silver.contract import FileFacts, InvalidRecord
from medallion_defs.sources.media.transform import Row, read_file
from tests.media_files import (
    image_bytes,
    make_covered_video,
    make_tone,
    make_video,
    put_id3,
    silent_layer_1,
)

Make = Callable[[Path], object]


def read(path: Path, external_id: str | None = None) -> dict[str, object]:
    item = FileFacts(
        UUID(int=0), "as-it-came.bin", datetime(2026, 2, 1, tzinfo=UTC),
        external_id or path.name, "media/folder", "media.bin", path.stat().st_size, "ab" * 32,
    )  # fmt: skip
    return dict(zip((*Row.__struct_fields__, "flags"), read_file(path, item), strict=True))


def make_branded(path: Path, brand: bytes) -> None:
    """An MP4 that names one brand, and none of those that most name."""
    content = make_video(path).read_bytes()
    size = int.from_bytes(content[:4], "big")
    path.write_bytes(content[:8] + brand + content[12:16] + brand * ((size - 16) // 4) + content[size:])


@pytest.mark.parametrize(
    ("name", "make", "expected"),
    [
        ("a.mp4", make_video, "video/mp4"),
        ("a.mov", make_video, "video/quicktime"),
        ("a.mkv", make_video, "video/x-matroska"),
        ("a.webm", lambda path: make_video(path, codec="libvpx", sound="libopus"), "video/webm"),
        ("a.avi", lambda path: make_video(path, codec="mpeg4", sound="libmp3lame"), "video/x-msvideo"),
        ("silent.mp4", lambda path: make_video(path, sound=None), "video/mp4"),
        ("a.wav", make_tone, "audio/wav"),
        ("a.flac", lambda path: make_tone(path, codec="flac"), "audio/flac"),
        ("a.mp3", lambda path: make_tone(path, codec="libmp3lame"), "audio/mpeg"),
        ("a.m4a", lambda path: make_tone(path, codec="aac"), "audio/mp4"),
        ("sound-only.mp4", lambda path: make_tone(path, codec="aac"), "audio/mp4"),
        ("a.opus", lambda path: make_tone(path, codec="libopus", rate=48_000), "audio/ogg"),
        ("sound-only.webm", lambda path: make_tone(path, codec="libopus", rate=48_000), "audio/webm"),
        ("a.mpg", lambda path: make_video(path, codec="mpeg1video", sound="mp2", rate=25), "video/mpeg"),
        ("a.flv", lambda path: make_video(path, codec="flv", sound=None), "video/x-flv"),
        ("sound-only.avi", make_tone, "audio/x-msvideo"),
        ("sound-only.flv", lambda path: make_tone(path, codec="libmp3lame", rate=44_100), "audio/x-flv"),
        ("sound-only.mpg", lambda path: make_tone(path, codec="mp2"), "audio/mpeg"),
        ("sound-only.mkv", lambda path: make_tone(path, codec="flac"), "audio/x-matroska"),
        ("sound-only.asf", lambda path: make_tone(path, codec="libmp3lame"), "audio/x-ms-wma"),
        ("covered.mp4", make_covered_video, "video/mp4"),
        ("mpeg1.mp3", lambda path: make_tone(path, codec="libmp3lame", rate=32_000), "audio/mpeg"),
        ("mpeg2.mp3", lambda path: make_tone(path, codec="libmp3lame", rate=22_050), "audio/mpeg"),
        ("mpeg2.5.mp3", lambda path: make_tone(path, codec="libmp3lame", rate=8_000), "audio/mpeg"),
        ("no-header.mp3", lambda path: make_tone(path, codec="libmp3lame", rate=8_000, options={"write_xing": "0"}), "audio/mpeg"),
        ("layer2.mp2", lambda path: make_tone(path, codec="mp2", rate=48_000), "audio/mpeg"),
        ("layer2-mpeg2.mp2", lambda path: make_tone(path, codec="mp2", rate=24_000), "audio/mpeg"),
        ("layer1.mp1", lambda path: path.write_bytes(silent_layer_1(20)), "audio/mpeg"),
        ("zeros-first.mp3", lambda path: path.write_bytes(b"\0" * 500 + silent_layer_1(20)), "audio/mpeg"),
        ("a.aac", lambda path: make_tone(path, codec="aac"), "audio/aac"),
        ("tagged.mp3", lambda path: put_id3(make_tone(path, codec="libmp3lame")), "audio/mpeg"),
        ("tagged.flac", lambda path: put_id3(make_tone(path, codec="flac")), "audio/flac"),
        ("tagged-twice.flac", lambda path: put_id3(put_id3(make_tone(path, codec="flac"))), "audio/flac"),
        ("tagged.aac", lambda path: put_id3(make_tone(path, codec="aac")), "audio/aac"),
        ("rf64.wav", lambda path: make_tone(path, options={"rf64": "always"}), "audio/wav"),
        ("dash.mp4", lambda path: make_branded(path, b"dash"), "video/mp4"),
        ("a.3gp", lambda path: make_branded(path, b"3gp5"), "video/3gpp"),
        ("a.png", lambda path: path.write_bytes(image_bytes("PNG")), "image/png"),
        ("a.jpg", lambda path: path.write_bytes(image_bytes("JPEG")), "image/jpeg"),
        ("a.gif", lambda path: path.write_bytes(image_bytes("GIF")), "image/gif"),
        ("a.webp", lambda path: path.write_bytes(image_bytes("WEBP")), "image/webp"),
        ("a.avif", lambda path: path.write_bytes(image_bytes("AVIF")), "image/avif"),
        ("a.tiff", lambda path: path.write_bytes(image_bytes("TIFF")), "image/tiff"),
    ],
)
def test_a_medium_is_known_by_its_content_under_any_name(tmp_path: Path, name: str, make: Make, expected: str) -> None:
    make(tmp_path / name)
    renamed = (tmp_path / name).rename(tmp_path / "report.csv")
    row = read(renamed)
    assert (row["mime_type"], row["media_type"], row["flags"]) == (expected, expected.partition("/")[0], "")


def test_the_row_says_where_in_bronze_the_file_is(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(image_bytes("PNG"))
    row = read(path, "cameras/north/a.png")
    assert (row["media_id"], row["filename"]) == ("cameras/north/a.png", "as-it-came.bin")
    assert (row["bronze_path"], row["artifact"], row["content_sha256"]) == ("media/folder", "media.bin", "ab" * 32)
    assert row["bytes"] == path.stat().st_size


@pytest.mark.parametrize("keep", [40, 2_000])
def test_a_video_that_is_cut_off_is_a_video_all_the_same(tmp_path: Path, keep: int) -> None:
    path = make_video(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[:keep])
    row = read(path)
    assert (row["media_type"], row["mime_type"], row["flags"]) == ("video", "video/mp4", "unreadable_container")


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"", "empty_file", "has no bytes"),
        (b"a,b\n1,2\n", "not_media", "its first bytes say nothing"),
        (b"%PDF-1.7\n" + b"x" * 100, "not_media", "application/pdf"),
        (b"#EXTM3U\nhttp://127.0.0.1:9/a.ts\n", "not_media", "not a video, audio or image"),
        ("id;name\n1;Åland\n".encode("utf-16"), "not_media", "its first bytes say nothing"),
        (("id;name\n" + "1;Åland\n" * 2_000).encode("utf-16"), "not_media", "its first bytes say nothing"),
        (b"ID3,NAME,SIZE\n1,a,2\n", "not_media", "its first bytes say nothing"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not_media", "not a video, audio or image"),
    ],
)
def test_what_is_no_medium_is_refused_with_a_reason(tmp_path: Path, content: bytes, code: str, message: str) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(InvalidRecord, match=message) as caught:
        read(path)
    assert caught.value.error_code == code


def test_a_path_too_long_for_a_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(image_bytes("PNG"))
    with pytest.raises(InvalidRecord, match="2048 bytes"):
        read(path, "ü" * 1_025)


def test_real_speech_is_audio(shared_data: Path) -> None:
    row = read(shared_data / "media/jfk.flac")
    assert (row["media_type"], row["mime_type"], row["bytes"]) == ("audio", "audio/flac", 1_152_693)
