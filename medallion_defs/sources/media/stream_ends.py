"""Whether a stream of sound ends as it should, for formats without a header that says when: MP3, AAC (ADTS) and Ogg.

Their frames and pages say how long they are, so a last one that is cut shows; Ogg marks its last page, and the first frame of an MP3
may say how many follow. A stream that was cut between two frames, and announces nothing, looks like a whole one.
"""

from pathlib import Path

_MPEG_BIT_RATES = {  # kbit/s, by MPEG-1 or not, and layer
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MPEG_RATES = (44_100, 48_000, 32_000)
_HEAD_BYTES, _TAIL_BYTES = 2_048, 70_000  # a page of Ogg has at most 65,307 bytes
_OGG_HEADER = 27
_OGG_LAST = 4


def is_cut_frame(format_name: str, frame: bytes) -> bool:
    """Whether a frame of a stream of this format says that it is longer than it is."""
    needed = {"mp3": _mpeg_frame_bytes, "aac": _adts_frame_bytes}.get(format_name)
    if needed is None:
        return False
    length = needed(frame)
    return len(frame) < 4 if length is None else len(frame) < length


def announced_frames(path: Path) -> int | None:
    """Return how many frames the first frame of an MP3 says that there are after it (`Xing`, `Info`); None: it says nothing.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
        if head[:3] == b"ID3" and len(head) >= 10:
            seven_bits = head[6:10]
            file.seek(10 + sum(byte << shift for byte, shift in zip(seven_bits, (21, 14, 7, 0), strict=True)))
            head = file.read(_HEAD_BYTES)
    length = _mpeg_frame_bytes(head)
    for mark in (b"Xing", b"Info"):
        place = head.find(mark, 4, 64)
        if length and 0 < place <= len(head) - 12 and head[place + 7] & 1:
            return int.from_bytes(head[place + 8 : place + 12])
    return None


def lacks_last_page(path: Path) -> bool:
    """Whether an Ogg file ends otherwise than with a whole page that says it is a stream's last.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL_BYTES))
        tail = file.read()
    place = tail.rfind(b"OggS")
    page = tail[place:]
    if place < 0 or len(page) < _OGG_HEADER or len(page) < _OGG_HEADER + page[26]:
        return True
    length = _OGG_HEADER + page[26] + sum(page[_OGG_HEADER : _OGG_HEADER + page[26]])
    return len(page) < length or not page[5] & _OGG_LAST


def _mpeg_frame_bytes(frame: bytes) -> int | None:
    """Return how long a frame of MPEG audio says that it is; None: it does not, or is none."""
    if len(frame) < 4 or frame[0] != 0xFF or frame[1] & 0xE0 != 0xE0:
        return None
    bits = int.from_bytes(frame[:4])
    version, layer = bits >> 19 & 3, 4 - (bits >> 17 & 3)
    bit_rate, rate, padding = bits >> 12 & 15, bits >> 10 & 3, bits >> 9 & 1
    if version == 1 or layer == 4 or bit_rate in (0, 15) or rate == 3:
        return None
    is_first = version == 3
    hertz = _MPEG_RATES[rate] >> (0 if is_first else 1 if version == 2 else 2)
    bits_a_second = _MPEG_BIT_RATES[is_first, layer][bit_rate] * 1_000
    if layer == 1:
        return (12 * bits_a_second // hertz + padding) * 4
    samples = 576 if layer == 3 and not is_first else 1_152
    return samples // 8 * bits_a_second // hertz + padding


def _adts_frame_bytes(frame: bytes) -> int | None:
    if len(frame) < 6 or frame[0] != 0xFF or frame[1] & 0xF6 != 0xF0:
        return None
    return (frame[3] & 3) << 11 | frame[4] << 3 | frame[5] >> 5
