"""Opening media files for tasks, and storing what tasks make of them. Every failure says which file and what to do.

FFmpeg (through PyAV) opens video and audio, Pillow images; both are imported when a file is opened and not before.
"""

import os
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medallion_defs.core.errors import TerminalError, TransientError
from medallion_defs.sources.media.packets import is_attached_picture

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream
    from PIL.Image import Image

MAX_PIXELS = 100_000_000  # of one picture: 300 MB as RGB; beyond it is taken for a decompression bomb

# What Pillow's decoders raised for bytes that were damaged at random; they have no error of their own in common.
_IMAGE_ERRORS = (EOFError, LookupError, OSError, OverflowError, RuntimeError, SyntaxError, TypeError, ValueError, struct.error)

Format = Literal["jpeg", "png"]
Sha256 = Field(pattern="^[0-9a-f]{64}$")


class DamagedMediumError(TerminalError):
    """The bytes are not what a decoder can use: cut off, damaged, or of another kind than they seemed."""


class StoredPicture(BaseModel):
    """A picture that a task made, in the item's derived folder.

    Attributes:
        file: its name there: the hash of its bytes and the extension.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    file: str
    sha256: str = Sha256
    bytes: int = Field(ge=1)
    width: int = Field(ge=1, description="pixels")
    height: int = Field(ge=1, description="pixels")


@dataclass(frozen=True)
class MediumFile:
    """A medium to open: where it is, and how people call it in messages."""

    path: Path
    name: str


def medium_of(path: Path | None, name: str) -> MediumFile:
    """Return the file of a work item.

    Raises:
        TerminalError: the item has none, or it is empty.
        TransientError: it cannot be looked at.
    """
    if path is None:
        raise TerminalError(
            f"{name}: the task was given no file. Its subjects query must return bronze_path and artifact, or derived_path."
        )
    try:
        size = path.stat().st_size
    except FileNotFoundError as error:
        raise TerminalError(f"{name}: there is no file {path}. Restore it, then requeue the task.") from error
    except OSError as error:
        raise TransientError(f"{name}: {path} cannot be read: {error}. Check the disk; the task is tried again.") from error
    if size == 0:
        raise DamagedMediumError(f"{name} has no bytes. Deliver it again.")
    return MediumFile(path, name)


@contextmanager
def open_container(medium: MediumFile) -> Iterator["InputContainer"]:
    """Open video or audio.

    Raises:
        DamagedMediumError: it cannot be opened, or what is done with it meets damage.
    """
    import av  # 35 MB of FFmpeg, for tasks that run and not for each process that loads

    try:
        # A playlist or a movie that refers to other files must not make us open them.
        with av.open(str(medium.path), metadata_errors="replace", options={"protocol_whitelist": "file"}) as container:
            yield container
    except av.FFmpegError as error:
        raise DamagedMediumError(f"{medium.name} cannot be decoded: {error.strerror}. Deliver it again.") from error


def pictures_of(container: "InputContainer", medium: MediumFile) -> "VideoStream":
    """Return the first video stream, ready to be decoded by one thread. A cover or thumbnail is not the film.

    Raises:
        DamagedMediumError: there is none, its codec is unknown, or its pictures are too large.
    """
    films = [stream for stream in container.streams.video if not is_attached_picture(stream)]
    if not films:
        raise DamagedMediumError(f"{medium.name} has no video stream.")
    stream = films[0]
    _require_codec(stream, medium)
    require_size(medium, stream.codec_context.width, stream.codec_context.height)
    stream.codec_context.thread_count = 1
    return stream


def sound_of(container: "InputContainer", medium: MediumFile) -> "AudioStream":
    """Return the first audio stream.

    Raises:
        DamagedMediumError: there is none, or its codec is unknown.
    """
    if not container.streams.audio:
        raise DamagedMediumError(f"{medium.name} has no audio stream.")
    stream = container.streams.audio[0]
    _require_codec(stream, medium)
    return stream


def codec_name(stream: "AudioStream | VideoStream") -> str:
    """Return FFmpeg's name of the codec, or `unknown`: of a damaged file PyAV gives streams without a codec."""
    context: Any = stream.codec_context
    return str(context.codec.canonical_name) if context else "unknown"


def _require_codec(stream: "AudioStream | VideoStream", medium: MediumFile) -> None:
    if codec_name(stream) == "unknown":
        raise DamagedMediumError(f"{medium.name} cannot be decoded: the codec of its {stream.type} stream is unknown. Deliver it again.")


@contextmanager
def open_image(medium: MediumFile) -> Iterator["Image"]:
    """Open an image, its pixels not yet decoded.

    Raises:
        DamagedMediumError: it is no image, it is too large, or decoding it meets damage.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            # Pillow warns of what we refuse below, and of oddities in metadata that nobody reads here.
            warnings.simplefilter("ignore")
            with Image.open(medium.path) as image:
                require_size(medium, image.width, image.height)
                yield image
    except Image.DecompressionBombError as error:
        raise DamagedMediumError(f"{medium.name} has more than {MAX_PIXELS:,} pixels. Deliver it smaller.") from error
    except _IMAGE_ERRORS as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise TransientError(f"{medium.name}: reading failed: {error}. Check the disk; the task is tried again.") from error
        raise DamagedMediumError(f"{medium.name} cannot be decoded as an image: {error}. Deliver it again.") from error


def require_size(medium: MediumFile, width: int, height: int) -> None:
    """Raise `DamagedMediumError` for a picture that would take more memory than any real one."""
    if width * height > MAX_PIXELS:
        raise DamagedMediumError(f"{medium.name} has {width}x{height} pixels, more than {MAX_PIXELS:,}. Deliver it smaller.")


def store_picture(image: "Image", folder: Path, image_format: Format, quality: int) -> StoredPicture:
    """Write an RGB image into a derived folder, named by its content; the same picture again is a no-op.

    Raises:
        TransientError: the folder cannot be written.
    """
    buffer = BytesIO()
    image.save(buffer, format=image_format.upper(), **({"quality": quality} if image_format == "jpeg" else {}))
    content = buffer.getvalue()
    digest = sha256(content).hexdigest()
    name = f"{digest}.{'jpg' if image_format == 'jpeg' else image_format}"
    _write_once(folder / name, content)
    return StoredPicture(file=name, sha256=digest, bytes=len(content), width=image.width, height=image.height)


def _write_once(path: Path, content: bytes) -> None:
    """Write a file whose name is its content's: whole or not at all, and on the disk before a result refers to it."""
    new = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        if path.exists() and path.stat().st_size == len(content):
            return
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise TransientError(f"{path} cannot be written: {error}. Free the disk; the task is tried again.") from error
