"""Reading a file from its first packet to its last while one stream of it is decoded.

A packet that cannot be decoded is counted and left out, and a file that breaks off ends there: what
is there is used, and `Decoder.damaged_packets` says how much is not.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from medallion_defs.sources.media.packets import PacketSurvey

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.stream import Stream

F = TypeVar("F")


class Decoder(Generic[F]):
    """The frames of one stream. Either `frames` or `first_frame` is called, and once.

    Attributes:
        survey: of the packets read so far, those of all streams.
    """

    def __init__(self, container: "InputContainer", stream: "Stream", decode: Callable[[Any], list[F]]) -> None:
        """Args: `decode` is the stream's own method, which gives its frames their type."""
        self.survey = PacketSurvey(container)
        self._container, self._stream, self._decode = container, stream, decode
        self._failed = 0
        self._is_at_end = False

    def frames(self) -> Iterator[F]:
        """Yield every frame, in the order in which they are shown."""
        for packet in self._packets():
            yield from self._decode_packet(packet)

    def first_frame(self) -> F | None:
        """Return the first frame that can be decoded; of what follows it only the packets are read."""
        packets = self._packets()
        first = next((frame for packet in packets for frame in self._decode_packet(packet)), None)
        for _ in packets:
            pass
        return first

    @property
    def damaged_packets(self) -> int:
        """Packets of the stream that are not whole or not decodable; at the end, also those missing."""
        missing = self.survey.missing_packets(self._stream) if self._is_at_end else 0
        return self.survey.of(self._stream).corrupt + self._failed + missing

    def _packets(self) -> "Iterator[Packet[Any]]":
        from av import FFmpegError

        try:
            for packet in self._container.demux():
                self.survey.add(packet)
                yield packet
        except FFmpegError:
            self._failed += 1
        self._is_at_end = True

    def _decode_packet(self, packet: "Packet[Any]") -> list[F]:
        from av import FFmpegError

        # Not its stream_index: that of the empty packet at a stream's end is always 0.
        if packet.stream.index != self._stream.index:
            return []
        try:
            return self._decode(packet)
        except FFmpegError:
            self._failed += not packet.is_corrupt  # else it is counted as such
            return []
