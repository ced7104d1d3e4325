"""Thumbnails and hashes: of images that look alike, of others, and of damaged ones."""

import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from medallion_defs.core.errors import TerminalError
from tests.media_files import draw_stripes, image_bytes, make_image
from tests.unit.tasks.conftest import RunTask, output_of


def hash_of(run_task: RunTask, path: Path) -> int:
    return int(output_of(run_task("image_thumbnail_phash", path))["phash"], 16)


def distance(one: int, other: int) -> int:
    return (one ^ other).bit_count()


def test_a_thumbnail_keeps_the_proportions_and_is_named_by_its_content(run_task: RunTask, tmp_path: Path) -> None:
    output = output_of(run_task("image_thumbnail_phash", make_image(tmp_path / "a.png", (800, 400)), max_edge_px=100))
    assert (output["width"], output["height"], output["format"], output["frames"]) == (800, 400, "PNG", 1)
    thumbnail = output["thumbnail"]
    assert (thumbnail["width"], thumbnail["height"]) == (100, 50)
    with Image.open(tmp_path / "derived/image_thumbnail_phash" / thumbnail["file"]) as image:
        assert (image.size, image.format) == ((100, 50), "JPEG")


def test_the_same_image_gives_the_same_output_again(run_task: RunTask, tmp_path: Path) -> None:
    path = make_image(tmp_path / "a.png")
    assert output_of(run_task("image_thumbnail_phash", path)) == output_of(run_task("image_thumbnail_phash", path))


def test_copies_of_an_image_have_nearly_the_same_hash_and_others_have_not(run_task: RunTask, tmp_path: Path) -> None:
    original = make_image(tmp_path / "a.png")
    with Image.open(original) as image:
        image.resize((100, 75)).save(tmp_path / "small.png")
        image.save(tmp_path / "poor.jpg", quality=20)
        ImageEnhance.Brightness(image).enhance(0.8).save(tmp_path / "dark.png")
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")

    other = hash_of(run_task, make_image(tmp_path / "stripes.png", draw=draw_stripes))
    first = hash_of(run_task, original)
    assert [distance(first, hash_of(run_task, tmp_path / name)) <= 4 for name in ("small.png", "poor.jpg", "dark.png")] == [True] * 3
    assert distance(first, hash_of(run_task, tmp_path / "mirrored.png")) > 4
    assert distance(first, other) > 10


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF"])
def test_an_image_of_one_colour_has_a_hash_of_zeros(run_task: RunTask, tmp_path: Path, image_format: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(image_bytes(image_format))
    assert hash_of(run_task, path) == 0


def test_a_photograph_is_turned_as_its_camera_says(run_task: RunTask, tmp_path: Path) -> None:
    make_image(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        exif = image.getexif()
        exif[0x0112] = 6  # orientation: turn by 90 degrees clockwise
        image.save(tmp_path / "turned.jpg", exif=exif)
    output = output_of(run_task("image_thumbnail_phash", tmp_path / "turned.jpg"))
    assert (output["width"], output["height"]) == (240, 320)
    assert (output["thumbnail"]["width"], output["thumbnail"]["height"]) == (192, 256)


def test_what_is_transparent_becomes_white(run_task: RunTask, tmp_path: Path) -> None:
    Image.new("RGBA", (32, 32), (0, 0, 0, 0)).save(tmp_path / "a.png")
    output = output_of(run_task("image_thumbnail_phash", tmp_path / "a.png"))
    with Image.open(tmp_path / "derived/image_thumbnail_phash" / output["thumbnail"]["file"]) as image:
        assert image.getpixel((16, 16)) == (255, 255, 255)


def test_an_animation_is_counted_and_its_first_picture_taken(run_task: RunTask, tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (32, 32), colour) for colour in ("white", "black", "red")]
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:])
    output = output_of(run_task("image_thumbnail_phash", tmp_path / "a.gif"))
    assert (output["format"], output["frames"]) == ("GIF", 3)


def test_the_views_of_a_photograph_are_not_an_animation(run_task: RunTask, tmp_path: Path) -> None:
    views = [Image.new("RGB", (32, 32), colour) for colour in ("white", "black", "red")]
    views[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=views[1:])
    output = output_of(run_task("image_thumbnail_phash", tmp_path / "a.jpg"))
    assert (output["format"], output["frames"]) == ("JPEG", 1)


RAMP = np.tile(np.linspace(0, 1, 256), (128, 1))
WIDE = {
    "16.png": (RAMP * 65_535).astype("<u2"),
    "16.tif": (RAMP * 65_535).astype("<u2"),
    "16-big-endian.tif": (RAMP * 65_535).astype(">u2"),
    "16.jp2": (RAMP * 65_535).astype("<u2"),
    "32.tif": (RAMP * (2**31 - 1)).astype("<i4"),
    "32-of-16.tif": (RAMP * 65_535).astype("<i4"),
    "32-of-8.tif": (RAMP * 255).astype("<i4"),
    "float.tif": RAMP.astype("<f4"),
    "float-of-8.tif": (RAMP * 255).round().astype("<f4"),
    "metres.tif": (RAMP * 3_000 - 400).astype("<f4"),
    "fractions.tif": (RAMP * 7.5).astype("<f4"),
}


def greys(run_task: RunTask, path: Path) -> tuple[list[int], str]:
    """Return the levels of the thumbnail from left to right, and the hash."""
    output = output_of(run_task("image_thumbnail_phash", path, image_format="png"))
    with Image.open(path.parent / "derived/image_thumbnail_phash" / output["thumbnail"]["file"]) as image:
        found = image.convert("L").resize((5, 1), Image.Resampling.BOX).tobytes()
    return list(found), output["phash"]


@pytest.mark.parametrize("name", WIDE)
@pytest.mark.parametrize("is_mirrored", [False, True])
def test_more_bits_a_pixel_show_the_same_greys_as_eight(run_task: RunTask, tmp_path: Path, name: str, is_mirrored: bool) -> None:
    step = -1 if is_mirrored else 1
    Image.fromarray(np.ascontiguousarray(WIDE[name][:, ::step])).save(tmp_path / name)
    Image.fromarray((RAMP * 255).round().astype("u1")[:, ::step]).save(tmp_path / "8.png")
    found, expected = greys(run_task, tmp_path / name), greys(run_task, tmp_path / "8.png")
    assert expected[1] == ("0" if is_mirrored else "f") * 16
    assert found[1] == expected[1]
    assert found[0] == pytest.approx(expected[0], abs=1)


def test_a_dark_picture_of_16_bits_stays_dark_and_one_whose_white_is_zero_is_turned(run_task: RunTask, tmp_path: Path) -> None:
    Image.fromarray((RAMP * 20_000).astype("<u2")).save(tmp_path / "dark.png")
    assert max(greys(run_task, tmp_path / "dark.png")[0]) < 80
    Image.fromarray((RAMP * 65_535).astype("<u2")).save(tmp_path / "negative.tif", tiffinfo={262: 0})
    levels, phash = greys(run_task, tmp_path / "negative.tif")
    assert (levels[0] > 200 > 50 > levels[-1], phash) == (True, "0" * 16)


def test_what_was_not_measured_does_not_hide_what_was(run_task: RunTask, tmp_path: Path) -> None:
    heights = (RAMP * 3_000).astype("<f4")
    heights[:16], heights[16, 0] = np.nan, np.inf
    Image.fromarray(heights).save(tmp_path / "heights.tif")
    levels, phash = greys(run_task, tmp_path / "heights.tif")
    assert (sorted(levels) == levels, levels[-1] > 150, phash[2:]) == (True, True, "f" * 14)


@pytest.mark.parametrize("mode", ["LA", "PA", "P", "CMYK", "1", "RGBA"])
def test_every_kind_of_pixel_shows_its_greys(run_task: RunTask, tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray((RAMP * 255).round().astype("u1")).convert(mode)
    picture.save(tmp_path / "a.tif") if mode != "PA" else picture.convert("P").save(tmp_path / "a.tif", transparency=0)
    levels, phash = greys(run_task, tmp_path / "a.tif")
    assert (sorted(levels) == levels, phash if mode != "1" else "f" * 16) == (True, "f" * 16)


def bomb() -> bytes:
    """A PNG of a few hundred bytes that says it has a quarter of a thousand million pixels."""
    buffer = BytesIO()
    Image.new("1", (16, 16)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    content[16:24] = (16_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no bytes"),
        (image_bytes("PNG")[:60], "cannot be decoded as an image"),
        (image_bytes("JPEG")[:300], "cannot be decoded as an image"),
        (image_bytes("WEBP")[:40], "cannot be decoded as an image"),
        (b"GIF89a", "cannot be decoded as an image"),
        (b"no image", "cannot be decoded as an image"),
        (bomb(), "more than 100,000,000"),
    ],
)
def test_a_damaged_image_fails_for_good_with_a_sentence(run_task: RunTask, tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    result = run_task("image_thumbnail_phash", path)
    assert isinstance(result.error, TerminalError)
    assert "photo.jpg" in str(result.error)
    assert message in str(result.error)
