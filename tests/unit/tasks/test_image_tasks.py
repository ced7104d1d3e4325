"""Thumbnails and hashes: of images that look alike, of others, and of damaged ones."""

import zlib
from io import BytesIO
from pathlib import Path

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
