"""`audio.probe`: what an audio file is made of, by its headers, and whether its first samples can be decoded."""

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from medallion_defs.labeling.contract import TaskContext, TaskSpec, WorkItem
from medallion_defs.labeling.per_item import item_processor
from medallion_defs.sources.media.files import DamagedMediumError, codec_name, medium_of, open_container, sound_of
from medallion_defs.sources.media.subjects import AUDIOS

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
_UNDETERMINED = "und"


class Parameters(BaseModel):
    """A probe has nothing to choose."""

    model_config = _STRICT


class AudioFacts(BaseModel):
    """Facts of one audio stream; None where the file does not say.

    Attributes:
        codec: FFmpeg's name; `unknown` where it has none.
        layout: which channel is where, such as `mono`, `stereo`, `5.1(side)`.
        language: as the file states it.
    """

    model_config = _STRICT

    codec: str
    channels: int | None = Field(ge=1)
    layout: str | None
    sample_rate_hz: int | None = Field(ge=1)
    bit_rate: int | None = Field(ge=0, description="bits a second")
    language: str | None


class Output(BaseModel):
    """Facts of one audio file.

    Attributes:
        container: FFmpeg's name of the format.
        has_picture: there is a cover, or another picture, beside the sound.
    """

    model_config = _STRICT

    container: str
    duration_ms: int | None = Field(ge=0)
    bit_rate: int | None = Field(ge=0, description="bits a second, all streams together")
    streams: list[AudioFacts] = Field(min_length=1)
    has_picture: bool


def get_spec() -> TaskSpec:
    return TaskSpec(
        task_key="audio.probe",
        media_type="audio",
        title="Facts of an audio file",
        description="Duration, streams, codecs, channels, sample rate; and a verdict on files that cannot be played.",
        domain="content",
        subjects=AUDIOS,
        output_model=Output,
        processor=item_processor(Parameters, _probe),
        owners=("team:content",),
    )


def _probe(item: WorkItem, parameters: Parameters, context: TaskContext) -> Output:
    medium = medium_of(item.path, item.inputs.get("filename") or item.subject_key)
    with open_container(medium) as container:
        if next(container.decode(sound_of(container, medium)), None) is None:
            raise DamagedMediumError(f"{medium.name} has an audio stream of which no sample can be decoded. Deliver it again.")
        return Output(
            container=container.format.name,
            duration_ms=_duration_ms(container),
            bit_rate=container.bit_rate or None,
            streams=[_describe(stream) for stream in container.streams.audio],
            has_picture=bool(container.streams.video),
        )


def _describe(stream: "AudioStream") -> AudioFacts:
    context: Any = stream.codec_context
    return AudioFacts(
        codec=codec_name(stream),
        channels=(context and context.channels) or None,
        layout=(context and context.channels and context.layout.name) or None,
        sample_rate_hz=(context and context.sample_rate) or None,
        bit_rate=(context and context.bit_rate) or None,
        language=None if stream.language == _UNDETERMINED else stream.language,
    )


def _duration_ms(container: "InputContainer") -> int | None:
    return max(0, container.duration // 1000) if container.duration is not None else None  # FFmpeg counts in microseconds
