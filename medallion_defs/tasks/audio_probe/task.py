"""`audio.probe`: what an audio file is made of, by its headers and the times of all its packets, and whether samples can be decoded."""

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from medallion_defs.labeling.contract import TaskContext, TaskSpec, WorkItem
from medallion_defs.labeling.per_item import item_processor
from medallion_defs.sources.media.decoding import Decoder
from medallion_defs.sources.media.files import DamagedMediumError, codec_name, medium_of, open_container, sound_of
from medallion_defs.sources.media.packets import PacketSurvey
from medallion_defs.sources.media.subjects import AUDIOS

if TYPE_CHECKING:
    from av.audio.stream import AudioStream

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
    bit_rate: int | None = Field(ge=0, description="bits a second, of what its packets hold")
    language: str | None


class Output(BaseModel):
    """Facts of one audio file.

    Attributes:
        container: FFmpeg's name of the format.
        duration_ms: by the times of all packets; the run-up and the padding that encoders add are not counted.
        missing_ms: of the duration that the header announces, what the file does not hold: it was cut off.
        damaged_packets: of the first stream: those that are not whole or not decodable, and those announced and not in the file.
        has_picture: there is a cover, or another picture, beside the sound.
    """

    model_config = _STRICT

    container: str
    duration_ms: int | None = Field(ge=0)
    missing_ms: int | None = Field(ge=0)
    bit_rate: int | None = Field(ge=0, description="bits a second, all streams together")
    streams: list[AudioFacts] = Field(min_length=1)
    damaged_packets: int = Field(ge=0)
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
        stream = sound_of(container, medium)
        decoder = Decoder(container, stream, stream.decode)
        if decoder.first_frame() is None:
            raise DamagedMediumError(f"{medium.name} has an audio stream of which no sample can be decoded. Deliver it again.")
        return Output(
            container=container.format.name,
            duration_ms=decoder.survey.duration_ms,
            missing_ms=decoder.survey.missing_ms,
            bit_rate=decoder.survey.bit_rate,
            streams=[_describe(each, decoder.survey) for each in container.streams.audio],
            damaged_packets=decoder.damaged_packets,
            has_picture=bool(container.streams.video),
        )


def _describe(stream: "AudioStream", survey: PacketSurvey) -> AudioFacts:
    context: Any = stream.codec_context
    return AudioFacts(
        codec=codec_name(stream),
        channels=(context and context.channels) or None,
        layout=(context and context.channels and context.layout.name) or None,
        sample_rate_hz=(context and context.sample_rate) or None,
        bit_rate=survey.of(stream).bit_rate,
        language=None if stream.language == _UNDETERMINED else stream.language,
    )
