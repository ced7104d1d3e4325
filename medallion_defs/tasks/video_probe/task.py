"""`video.probe`: what a video file is made of, by its headers and the times of all its packets, and whether a picture can be decoded."""

from fractions import Fraction

from pydantic import BaseModel, ConfigDict, Field

from medallion_defs.labeling.contract import TaskContext, TaskSpec, WorkItem
from medallion_defs.labeling.per_item import item_processor
from medallion_defs.sources.media.decoding import Decoder
from medallion_defs.sources.media.files import DamagedMediumError, codec_name, medium_of, open_container, pictures_of
from medallion_defs.sources.media.subjects import VIDEOS

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


class Parameters(BaseModel):
    """A probe has nothing to choose."""

    model_config = _STRICT


class Output(BaseModel):
    """Facts of one video; None where the file does not say.

    Attributes:
        container: FFmpeg's name of the format.
        duration_ms: by the times of all packets, from the first picture or sound to the last.
        missing_ms: of the duration that the header announces, what the file does not hold: it was cut off.
        codec: FFmpeg's name of the codec of the first video stream that is not an attached picture; `width`, `height`,
            `frame_rate` (frames a second), `frames` and `damaged_packets` are that stream's.
        frames: pictures that are in the file.
        damaged_packets: of these, those that are not whole, and those that the header announces and the file does not hold.
        rotation_degrees: by which a player turns the picture, counter-clockwise.
        audio_codecs, subtitles: of the streams beside it.
    """

    model_config = _STRICT

    container: str
    duration_ms: int | None = Field(ge=0)
    missing_ms: int | None = Field(ge=0)
    bit_rate: int | None = Field(ge=0, description="bits a second, all streams together")
    codec: str
    width: int = Field(ge=1, description="pixels")
    height: int = Field(ge=1, description="pixels")
    frame_rate: float | None
    frames: int = Field(ge=0)
    damaged_packets: int = Field(ge=0)
    rotation_degrees: int
    audio_codecs: list[str]
    subtitles: int = Field(ge=0)


def get_spec() -> TaskSpec:
    return TaskSpec(
        task_key="video.probe",
        media_type="video",
        title="Facts of a video",
        description="Duration, codecs, size of the picture, frame rate, streams; and a verdict on files that cannot be played.",
        domain="content",
        subjects=VIDEOS,
        output_model=Output,
        processor=item_processor(Parameters, _probe),
        owners=("team:content",),
    )


def _probe(item: WorkItem, parameters: Parameters, context: TaskContext) -> Output:
    medium = medium_of(item.path, item.inputs.get("filename") or item.subject_key)
    with open_container(medium) as container:
        stream = pictures_of(container, medium)
        decoder = Decoder(container, stream, stream.decode)
        first = decoder.first_frame()
        if first is None:
            raise DamagedMediumError(f"{medium.name} has a video stream of which no frame can be decoded. Deliver it again.")
        return Output(
            container=container.format.name,
            duration_ms=decoder.survey.duration_ms,
            missing_ms=decoder.survey.missing_ms,
            bit_rate=decoder.survey.bit_rate,
            codec=codec_name(stream),
            width=first.width,
            height=first.height,
            frame_rate=_rounded(stream.average_rate),
            frames=decoder.survey.of(stream).count,
            damaged_packets=decoder.damaged_packets,
            rotation_degrees=int(first.rotation),
            audio_codecs=[codec_name(audio) for audio in container.streams.audio],
            subtitles=len(container.streams.subtitles),
        )


def _rounded(rate: Fraction | None) -> float | None:
    return round(float(rate), 3) if rate else None
