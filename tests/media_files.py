"""Media made by the tests: a video with a tone, tones, pictures. Real files, encoded as programs out there encode them."""

import math
import struct
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import Any

import av
from PIL import Image, ImageDraw

FRAMES_PER_SECOND = 10
TONE_HZ = 440


def make_video(path: Path, *, seconds: int = 3, codec: str = "libx264", sound: str | None = "aac", keep_still: bool = False) -> Path:
    """A white square that moves over a background that changes; the first second differs from the last."""
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream(codec, rate=FRAMES_PER_SECOND)
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        audio: Any = container.add_stream(sound, rate=48_000 if sound == "libopus" else 16_000, layout="mono") if sound else None
        for number in range(seconds * FRAMES_PER_SECOND):
            place = 0 if keep_still else number
            container.mux(video.encode(av.VideoFrame.from_image(_picture(place))))  # type: ignore[no-untyped-call]  # PyAV leaves it untyped
        container.mux(video.encode(None))
        if audio:
            _encode_tone(container, audio, float(seconds))
    return path


def make_tone(path: Path, *, seconds: float = 1.0, codec: str = "pcm_s16le", rate: int = 16_000) -> Path:
    """A sine of 440 Hz, one channel."""
    with av.open(str(path), "w") as container:
        _encode_tone(container, container.add_stream(codec, rate=rate, layout="mono"), seconds)
    return path


def make_image(path: Path, size: tuple[int, int] = (320, 240), draw: Callable[[ImageDraw.ImageDraw], None] | None = None) -> Path:
    """A landscape of large shapes, or what `draw` draws on white."""
    image = Image.new("RGB", size, "white")
    (draw or _draw_landscape)(ImageDraw.Draw(image))
    image.save(path)
    return path


def draw_stripes(draw: ImageDraw.ImageDraw) -> None:
    """Black stripes from top to bottom: an image that looks like no landscape."""
    for left in range(0, 320, 40):
        draw.rectangle((left, 0, left + 20, 240), fill="black")


def image_bytes(image_format: str, size: tuple[int, int] = (64, 48)) -> bytes:
    """An image in memory, in any format that Pillow writes."""
    buffer = BytesIO()
    Image.new("RGB", size, (200, 40, 40)).save(buffer, image_format)
    return buffer.getvalue()


def _picture(number: int) -> Image.Image:
    image = Image.new("RGB", (160, 120), (number * 8 % 256, 100, 200 - number * 5 % 200))
    ImageDraw.Draw(image).rectangle((number * 3, 20, number * 3 + 30, 60), fill="white")
    return image


def _draw_landscape(draw: ImageDraw.ImageDraw) -> None:
    draw.rectangle((0, 150, 320, 240), fill=(30, 120, 30))
    draw.ellipse((30, 20, 110, 100), fill=(250, 200, 0))
    draw.polygon(((160, 150), (230, 50), (300, 150)), fill=(90, 90, 100))


def _encode_tone(container: Any, stream: Any, seconds: float) -> None:
    rate, chunk = stream.codec_context.sample_rate, 960
    for start in range(0, int(rate * seconds), chunk):
        samples = [int(12_000 * math.sin(2 * math.pi * TONE_HZ * n / rate)) for n in range(start, start + chunk)]
        frame = av.AudioFrame("s16", "mono", chunk)
        frame.planes[0].update(struct.pack(f"<{chunk}h", *samples))
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
