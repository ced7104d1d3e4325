"""What all packets of a file say together: how long it plays, how dense it is, how much is missing.

Only what the packets say counts: a container's own duration is often an estimate, seventeen times
too long for an AAC stream that begins with silence. Nothing is decoded here. What is asked of a
survey holds for the packets that it was given, and while their container is open.
"""

import struct
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medallion_defs.sources.media.stream_ends import announced_frames, is_cut_frame, lacks_last_page

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.stream import Stream

_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"  # lists each packet in its header
# Their headers say when the file ends; of other formats FFmpeg estimates it, or reads it at the end.
_STATING_FORMATS = frozenset({_MP4, "matroska,webm", "flv", "flac", "asf"})
# Headers are off by as much: encoders pad sound, and FLV has no duration of the last picture.
_TOLERANCE_SECONDS = Fraction(1, 4)


@dataclass
class StreamPackets:
    """The packets of one stream.

    Attributes:
        corrupt: not whole, as the demuxer says: the file ends inside them.
        runs: first and last instant of each run, in ticks of the stream; joined files begin again.
        step: ticks from a packet to the next; stands in for durations that a format does not keep.
        last: the last packet.
    """

    stream: "Stream"
    count: int = 0
    bytes: int = 0
    corrupt: int = 0
    runs: list[list[int]] = field(default_factory=list)
    step: int = 0
    last: "Packet[Stream] | None" = None
    _last_dts: int | None = None

    @property
    def seconds(self) -> Fraction | None:
        """What the stream plays, all runs together; None where its packets have no times."""
        ticks = sum(end - start for start, end in self.runs)
        return ticks * self.time_base if ticks > 0 else None

    @property
    def end(self) -> Fraction:
        """The last instant, in seconds on the file's own clock; 0 without times."""
        return max((end for _, end in self.runs), default=0) * self.time_base

    @property
    def time_base(self) -> Fraction:
        """Seconds of one tick."""
        return self.stream.time_base or Fraction(0)

    @property
    def bit_rate(self) -> int | None:
        """Bits a second of what the packets hold."""
        return _bits_a_second(self.bytes, self.seconds)

    def add(self, packet: "Packet[Stream]") -> None:
        """Count one packet; they come in the order of the file."""
        self.count += 1
        self.bytes += packet.size
        self.corrupt += packet.is_corrupt
        self.last = packet
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None or packet.is_discard:  # discarded: left out by the file's edit list
            return
        is_new_run = self._follow(packet.dts)
        start, end = self._played(packet, time)
        if is_new_run or not self.runs:
            self.runs.append([start, end])
        run = self.runs[-1]
        run[:] = min(run[0], start), max(run[1], end)

    def _follow(self, dts: int | None) -> bool:
        """Note the step from the packet before; True when the times begin again."""
        if dts is None:
            return False
        last, self._last_dts = self._last_dts, dts
        if last is None or dts < last:
            return last is not None
        self.step = dts - last
        return False

    def _played(self, packet: "Packet[Stream]", time: int) -> tuple[int, int]:
        """Return from when to when a packet plays, without what an audio encoder put around it."""
        duration = packet.duration or self.step
        before, after = _padding(packet, self.time_base)
        # Ogg and WebM have the padding at the end taken off already: the packet is shorter.
        return time + before, time + duration - (after if duration >= self.step else 0)


class PacketSurvey:
    """The packets of a file, by stream. `add` is to be given each packet of all streams."""

    def __init__(self, container: "InputContainer") -> None:
        self._container = container
        self._streams: dict[int, StreamPackets] = {}

    def add(self, packet: "Packet[Stream]") -> None:
        """Count a packet; the empty one with which a demuxer ends a stream is not one."""
        if packet.size or packet.dts is not None:
            self.of(packet.stream).add(packet)

    def of(self, stream: "Stream") -> StreamPackets:
        """Return what was read of one stream."""
        return self._streams.setdefault(stream.index, StreamPackets(stream))

    @property
    def seconds(self) -> Fraction | None:
        """What the file plays, from its first picture or sound to its last; None without times."""
        timed = [each for each in self._streams.values() if _is_played(each.stream) and each.seconds]
        if any(len(each.runs) > 1 for each in timed):
            return max(each.seconds or Fraction(0) for each in timed)
        starts = [each.runs[0][0] * each.time_base for each in timed]
        return max(each.end for each in timed) - min(starts) if timed else None

    @property
    def duration_ms(self) -> int | None:
        """`seconds` in milliseconds."""
        return None if self.seconds is None else round(self.seconds * 1000)

    @property
    def bit_rate(self) -> int | None:
        """Bits a second of the whole file."""
        return _bits_a_second(self._container.size, self.seconds)

    @property
    def missing_ms(self) -> int | None:
        """Milliseconds that the header announces and the file does not hold; None where it does not say."""
        missing = self._missing_of_mp3() if self._container.format.name == "mp3" else self._missing_seconds(self._announced_end())
        return None if missing is None else round(missing * 1000)

    def missing_packets(self, stream: "Stream") -> int:
        """Return how many packets of a stream the header announces and the file does not hold."""
        found = self.of(stream)
        if self._container.format.name == _MP4:
            return max(0, len(stream.index_entries) - found.count)
        if self._container.format.name == "ogg":
            return int(lacks_last_page(Path(self._container.name)))
        if self._container.format.name in ("mp3", "aac"):
            return (self._missing_frames(found) or 0) + self._ends_in_a_frame(found)
        missing = self._missing_seconds(self._announced_end())
        return int(missing / (found.step * found.time_base)) if missing and found.step else 0

    def _ends_in_a_frame(self, found: StreamPackets) -> bool:
        return found.last is not None and is_cut_frame(self._container.format.name, bytes(found.last))

    def _missing_frames(self, found: StreamPackets) -> int | None:
        """Return how many frames an MP3 announces and does not hold at all; None: it announces none. Parts joined to one hold more."""
        announced = announced_frames(Path(self._container.name)) if self._container.format.name == "mp3" else None
        return None if announced is None else max(0, announced - found.count)

    def _missing_of_mp3(self) -> Fraction | None:
        found = self.of(self._container.streams.audio[0])
        frames = self._missing_frames(found)
        return None if frames is None else (frames + self._ends_in_a_frame(found)) * found.step * found.time_base

    def _missing_seconds(self, announced_end: Fraction | None) -> Fraction | None:
        if announced_end is None:
            return None
        found_end = max((each.end for each in self._streams.values()), default=Fraction(0))
        missing = announced_end - found_end
        return missing if missing > _TOLERANCE_SECONDS else Fraction(0)

    def _announced_end(self) -> Fraction | None:
        """When the last stream ends by the header, in seconds on the file's own clock."""
        if self._container.format.name == "avi":
            # FFmpeg corrects the duration of an AVI by its size, but not the number of its pieces.
            streams = self._container.streams
            counts = [each.frames * (each.time_base or 0) for each in streams if _is_played(each)]
            return Fraction(max(counts, default=0)) or None
        if self._container.format.name in _STATING_FORMATS and self._container.duration:
            return Fraction(self._container.duration, 1_000_000)
        return None


def is_attached_picture(stream: "Stream") -> bool:
    """Say whether a video stream is a cover or a thumbnail beside the film."""
    from av.stream import Disposition

    return bool(stream.disposition & Disposition.attached_pic)


def _is_played(stream: "Stream") -> bool:
    return stream.type in ("video", "audio") and not is_attached_picture(stream)


def _padding(packet: "Packet[Stream]", time_base: Fraction) -> tuple[int, int]:
    """Return the ticks that are decoded and not played at the start of a packet, and at its end."""
    if not time_base or not packet.has_sidedata("skip_samples"):
        return 0, 0
    context: Any = packet.stream.codec_context
    before, after = struct.unpack_from("<II", bytes(packet.get_sidedata("skip_samples")))
    ticks_a_sample = 1 / (context.sample_rate * time_base) if context.sample_rate else 0
    return round(before * ticks_a_sample), round(after * ticks_a_sample)


def _bits_a_second(size: int, seconds: Fraction | None) -> int | None:
    return round(size * 8 / seconds) if seconds else None
