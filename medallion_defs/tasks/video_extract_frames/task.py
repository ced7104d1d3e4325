"""`video.extract_frames`: still pictures of a video, every n seconds or at its key frames, into the item's derived folder.

Frames are decoded from the first to the last, by one thread: the output must not depend on where a seek happens to land, nor
on how many cores there are.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from medallion_defs.labeling.contract import BatchStrategy, TaskContext, TaskSpec, WorkItem
from medallion_defs.labeling.per_item import item_processor
from medallion_defs.sources.media.decoding import Decoder
from medallion_defs.sources.media.files import (
    DamagedMediumError,
    Format,
    MediumFile,
    StoredPicture,
    medium_of,
    open_container,
    pictures_of,
    require_size,
    store_picture,
)
from medallion_defs.sources.media.subjects import VIDEOS

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.stream import VideoStream
    from PIL.Image import Image

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


class Parameters(BaseModel):
    """The profile's parameters.

    Attributes:
        frames: `interval`: the first frame of every `every_seconds`; `key`: the frames that the encoder made whole.
        max_frames: the rest of a longer video is left out, and the output says so.
        max_edge_px: larger pictures are made smaller, to this on their longer side.
        quality: of JPEG.
    """

    model_config = _STRICT

    frames: Literal["interval", "key"]
    every_seconds: float = Field(gt=0)
    max_frames: int = Field(ge=1, le=10_000)
    max_edge_px: int = Field(ge=16, le=8_192)
    image_format: Format
    quality: int = Field(ge=1, le=95)


class FrameRef(StoredPicture):
    """One frame: its file, and when it is shown, from the start of the video."""

    time_ms: int


class Output(BaseModel):
    """The frames of one video, in order of time.

    Attributes:
        is_truncated: there were more frames than `max_frames`.
        damaged_packets: pieces of the video that are not whole or could not be decoded, and, of a file that was cut off, those
            that its header announces and that are not there. Of what comes after `max_frames` nothing is known.
    """

    model_config = _STRICT

    frames: list[FrameRef] = Field(min_length=1)
    is_truncated: bool
    damaged_packets: int = Field(ge=0)


def get_spec() -> TaskSpec:
    return TaskSpec(
        task_key="video.extract_frames",
        media_type="video",
        title="Frames of a video",
        description="Still pictures, every n seconds or at key frames: file name, sha256, size, and the time at which each is shown.",
        domain="content",
        subjects=VIDEOS,
        output_model=Output,
        processor=item_processor(Parameters, _extract_frames),
        batch_strategy=BatchStrategy(max_items=20, max_bytes=2 * 1024**3),
        owners=("team:content",),
    )


def _extract_frames(item: WorkItem, parameters: Parameters, context: TaskContext) -> Output:
    medium = medium_of(item.path, item.inputs.get("filename") or item.subject_key)
    folder = context.derived(item.task_id)
    frames: list[FrameRef] = []
    is_truncated = False
    with open_container(medium) as container:
        stream = pictures_of(container, medium)
        if parameters.frames == "key":
            stream.codec_context.skip_frame = "NONKEY"
        decoder = Decoder(container, stream, stream.decode)
        for time_ms, frame in _choose(_timed(decoder, stream, medium), parameters):
            if len(frames) == parameters.max_frames:
                is_truncated = True
                break
            picture = store_picture(_shrink(frame, parameters.max_edge_px), folder, parameters.image_format, parameters.quality)
            frames.append(FrameRef(**picture.model_dump(), time_ms=time_ms))
        damaged_packets = decoder.damaged_packets
    if not frames:
        raise DamagedMediumError(f"{medium.name} has a video stream of which no frame can be decoded. Deliver it again.")
    return Output(frames=frames, is_truncated=is_truncated, damaged_packets=damaged_packets)


def _timed(decoder: "Decoder[VideoFrame]", stream: "VideoStream", medium: MediumFile) -> Iterator[tuple[int, "VideoFrame"]]:
    """Yield each frame with its time in ms from the start of the stream."""
    rate = float(stream.guessed_rate or 25)
    start, last = float((stream.start_time or 0) * (stream.time_base or 0)), 0.0
    for number, frame in enumerate(decoder.frames()):
        require_size(medium, frame.width, frame.height)
        # Raw streams have no times: then the number of the frame tells.
        seconds = frame.time - start if frame.time is not None else number / rate
        if seconds < last:  # joined files begin their times again
            start -= last + 1 / rate - seconds
            seconds = last + 1 / rate
        last = seconds
        yield round(seconds * 1000), frame


def _choose(frames: Iterator[tuple[int, "VideoFrame"]], parameters: Parameters) -> Iterator[tuple[int, "VideoFrame"]]:
    """Yield the frames to keep."""
    if parameters.frames == "key":
        yield from frames
        return
    due = None
    for time_ms, frame in frames:
        number = int(time_ms // (parameters.every_seconds * 1000))
        if due is None or number >= due:
            yield time_ms, frame
            due = number + 1


def _shrink(frame: "VideoFrame", max_edge_px: int) -> "Image":
    """Return the frame upright, as people see it, at most `max_edge_px` wide and high."""
    image: Image = frame.to_image()  # type: ignore[no-untyped-call]  # PyAV leaves it untyped, for it does not need Pillow
    if frame.rotation:
        image = image.rotate(frame.rotation, expand=True)
    image.thumbnail((max_edge_px, max_edge_px))
    return image
