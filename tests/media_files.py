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


def make_video(
    path: Path, *, seconds: int = 3, codec: str = "libx264", sound: str | None = "aac", keep_still: bool = False,
    rate: int = FRAMES_PER_SECOND, start_seconds: int = 0, options: dict[str, str] | None = None,
) -> Path:  # fmt: skip
    """A white square that moves over a background that changes; the first second differs from the last.

    `options` are the container's, such as `{"movflags": "faststart"}`: the index of an MP4 at its start.
    """
    with av.open(str(path), "w", options=options or {}) as container:
        video: Any = container.add_stream(codec, rate=rate)
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        audio: Any = container.add_stream(sound, rate=48_000 if sound == "libopus" else 16_000, layout="mono") if sound else None
        for number in range(seconds * rate):
            frame: Any = av.VideoFrame.from_image(_picture(0 if keep_still else number))  # type: ignore[no-untyped-call]
            frame.pts, frame.time_base = start_seconds * rate + number, Fraction(1, rate)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio:
            _encode_tone(container, audio, float(seconds))
    return path


def make_tone(
    path: Path, *, seconds: float = 1.0, codec: str = "pcm_s16le", rate: int = 16_000, loud_after: float = 0.0,
    options: dict[str, str] | None = None,
) -> Path:  # fmt: skip
    """A sine of 440 Hz, one channel, after `loud_after` seconds of silence. `options` are the container's."""
    with av.open(str(path), "w", options=options or {}) as container:
        _encode_tone(container, container.add_stream(codec, rate=rate, layout="mono"), seconds, loud_after)
    return path


def make_covered_video(path: Path) -> Path:
    """An MP4 whose cover stands before its film: FFmpeg lists it as the first video stream."""
    with av.open(str(path), "w") as container:
        film, cover = (container.add_stream(codec, rate=FRAMES_PER_SECOND) for codec in ("mpeg4", "mjpeg"))
        for stream, size, pixels in ((film, (160, 120), "yuv420p"), (cover, (64, 64), "yuvj420p")):
            stream.width, stream.height, stream.pix_fmt = *size, pixels
        cover.disposition = av.stream.Disposition.attached_pic
        picture: Any = av.VideoFrame.from_image(Image.new("RGB", (64, 64), "red"))  # type: ignore[no-untyped-call]
        container.mux(cover.encode(picture.reformat(format="yuvj420p")))
        for number in range(3 * FRAMES_PER_SECOND):
            container.mux(film.encode(av.VideoFrame.from_image(_picture(number))))  # type: ignore[no-untyped-call]
        container.mux(film.encode(None))
        container.mux(cover.encode(None))
    content = path.read_bytes()
    start = content.index(b"moov") + 4  # at the end of the file, so that nothing else moves
    boxes = _boxes(content[start:])
    path.write_bytes(content[:start] + b"".join(sorted(boxes, key=lambda box: box[4:8] != b"udta")))
    return path


def _boxes(content: bytes) -> list[bytes]:
    boxes = []
    while content:
        size = int.from_bytes(content[:4], "big")
        boxes.append(content[:size])
        content = content[size:]
    return boxes


def silent_layer_1(frames: int) -> bytes:
    """MPEG-1 audio, layer I, 384 kbit/s, 48 kHz: no program makes it any more. All bits of a frame 0 is silence."""
    return (b"\xff\xff\xc4\x00" + b"\0" * 380) * frames


def put_id3(path: Path, size: int = 20_000) -> Path:
    """An empty ID3 tag in front of a file, larger than what is looked at first."""
    length = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\0\0" + length + b"\0" * size + path.read_bytes())
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


def _encode_tone(container: Any, stream: Any, seconds: float, loud_after: float = 0.0) -> None:
    rate, chunk = stream.codec_context.sample_rate, 960
    for start in range(0, int(rate * seconds), chunk):
        volume = 12_000 if start >= loud_after * rate else 0
        samples = [int(volume * math.sin(2 * math.pi * TONE_HZ * n / rate)) for n in range(start, start + chunk)]
        frame = av.AudioFrame("s16", "mono", chunk)
        frame.planes[0].update(struct.pack(f"<{chunk}h", *samples))
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
