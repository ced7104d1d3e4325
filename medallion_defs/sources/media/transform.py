"""Media: from one file to one row of `silver.media`. Pure, but for reading that file.

What the file is, its first bytes say, never its name. A damaged medium is a medium all the same: whether it can be
played is a task's question.
"""

from pathlib import Path

import msgspec

from medallion_defs.silver.contract import FileFacts, InvalidRecord

# What names a medium and lists its streams: another version may answer otherwise.
LIBRARIES = ("filetype", "av")

MAX_ID_BYTES = 2_048  # a key's entry in a btree holds 2,704 bytes
_HEAD_BYTES = 8_192
_MAX_TAGS = 4  # ID3 tags one after the other; players skip as many
_STANDARD_NAMES = {
    "audio/x-aiff": "audio/aiff", "audio/x-flac": "audio/flac", "audio/x-wav": "audio/wav",
    "audio/x-m4v": "audio/mp4", "audio/x-ms-wmv": "audio/x-ms-wma",
}  # fmt: skip
# The first bytes of these name a container, which may hold pictures and sound, or sound alone.
_CONTAINERS = frozenset(
    {
        "audio/mp4", "audio/ogg", "video/3gpp", "video/mp4", "video/mpeg", "video/quicktime", "video/webm", "video/x-flv",
        "video/x-m4v", "video/x-matroska", "video/x-ms-wmv", "video/x-msvideo",
    }
)  # fmt: skip
# What filetype does not know. WAV: beyond 4 GB (RF64, BW64) and big-endian (RIFX).
_WAVES = (b"RF64", b"BW64", b"RIFX")
_PICTURE_BRANDS = frozenset({b"avif", b"avis", b"crx ", b"mif1", b"mif2", b"miaf", b"msf1"})  # and heic, heix, hevc …
_KBITS_1 = {
    1: range(32, 449, 32),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_KBITS_2 = {
    1: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    3: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}


class Row(msgspec.Struct):
    """One row of `silver.media`: the source's own columns, in table order."""

    media_id: str
    media_type: str
    mime_type: str
    filename: str
    bytes: int
    content_sha256: str
    bronze_path: str
    artifact: str


def read_file(path: Path, item: FileFacts) -> tuple[object, ...]:
    """Return the values of `Row`, then the quality flags joined by commas.

    Raises:
        InvalidRecord: the file is empty or not a medium, or its id is too long for a key.
    """
    if len(item.external_id.encode()) > MAX_ID_BYTES:
        raise InvalidRecord("invalid_value", f"The file's path is longer than {MAX_ID_BYTES} bytes. Deliver it under a shorter one.")
    mime_type = _guess_mime_type(path, item)
    flags = ""
    if mime_type in _CONTAINERS:
        media_type = _look_into_container(path)
        flags = "" if media_type else ",unreadable_container"
        mime_type = f"{media_type or mime_type.partition('/')[0]}/{mime_type.partition('/')[2]}"
    mime_type = _STANDARD_NAMES.get(mime_type, mime_type)
    return (
        item.external_id, mime_type.partition("/")[0], mime_type, item.filename,
        item.bytes, item.sha256, item.bronze_path, item.artifact, flags[1:],
    )  # fmt: skip


def _guess_mime_type(path: Path, item: FileFacts) -> str:
    import filetype  # only loads pay for it

    head, has_tag = _read_head(path)
    if not head and not has_tag:
        raise InvalidRecord("empty_file", f"{item.filename} has no bytes. Deliver it again.")
    guess: str | None = _match_more(head) or filetype.guess_mime(head) or _match_brand(head)
    if has_tag and guess is None:
        guess = "audio/mpeg"
    elif head.startswith(b"ID3"):  # filetype takes the word for a tag; a table may begin with it
        guess = None
    if guess is None or not guess.startswith(("video/", "audio/", "image/")):
        raise InvalidRecord(
            "not_media",
            f"{item.filename} is not a video, audio or image that is known: its first bytes say {guess or 'nothing'}. Remove it.",
        )
    return guess


def _read_head(path: Path) -> tuple[bytes, bool]:
    """Return the first bytes behind ID3 tags, and whether there was one: they stand before FLAC and AAC, too, not only before MP3."""
    with path.open("rb") as file:
        start, head = 0, file.read(_HEAD_BYTES)
        for _ in range(_MAX_TAGS):
            if not (length := _tag_length(head)):
                break
            start += length
            file.seek(start)
            head = file.read(_HEAD_BYTES)
    return head, start > 0


def _tag_length(head: bytes) -> int:
    """Return the bytes of the ID3v2 tag at the start; 0: there is none."""
    if len(head) < 10 or head[:3] != b"ID3" or head[3] not in (2, 3, 4) or max(head[6:10]) > 0x7F:
        return 0
    has_footer = bool(head[5] & 0x10)
    return 10 + (head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]) + 10 * has_footer


def _match_more(head: bytes) -> str | None:
    """Name what filetype does not know, or knows only in part."""
    if head[8:12] == b"WAVE" and head[:4] in _WAVES:
        return "audio/wav"
    if head[:4] == b"FORM" and head[8:12] == b"AIFC":
        return "audio/aiff"
    if head[4:10] == b"ftyp3g":
        return "video/3gpp"
    return _match_frames(head.lstrip(b"\0"))  # silence cut out of a stream begins with zeros


def _match_brand(head: bytes) -> str | None:
    """Name an MP4 of any brand (dash, avc1, MSNV …), where filetype knows but three; pictures have brands of their own."""
    brand = head[8:12]
    is_picture = brand in _PICTURE_BRANDS or brand.startswith((b"hei", b"hev"))
    return "video/mp4" if head[4:8] == b"ftyp" and not is_picture else None


def _match_frames(head: bytes) -> str | None:
    """Name a stream of MPEG audio or AAC by two frames in a row: text in UTF-16 begins like one."""
    for mime_type, length_of in (("audio/mpeg", _mpeg_frame_length), ("audio/aac", _aac_frame_length)):
        length = length_of(head)
        if length and (length == len(head) or length_of(head[length:])):
            return mime_type
    return None


def _mpeg_frame_length(head: bytes) -> int:
    """Return the bytes of the frame of MPEG 1, 2 or 2.5 audio, layer I, II or III, at the start; 0: there is none."""
    if len(head) < 4 or head[0] != 0xFF or head[1] < 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, 4 - (head[1] >> 1 & 3)
    kbits, rate, padding = head[2] >> 4, head[2] >> 2 & 3, head[2] >> 1 & 1
    if version == 1 or layer == 4 or kbits in (0, 15) or rate == 3:
        return 0
    bit_rate = 1000 * (_KBITS_1 if version == 3 else _KBITS_2)[layer][kbits - 1]
    sample_rate = _SAMPLE_RATES[version][rate]
    if layer == 1:
        return (12 * bit_rate // sample_rate + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bit_rate // sample_rate + padding


def _aac_frame_length(head: bytes) -> int:
    """Return the bytes of the ADTS frame at the start; 0: there is none."""
    if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 0xF > 12:
        return 0
    return (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5


def _look_into_container(path: Path) -> str | None:
    """Return `video` when there are moving pictures, not only a cover, else `audio`; None when the streams cannot be listed."""
    import av

    try:
        # A playlist or a movie that refers to other files must not make us open them.
        with av.open(str(path), metadata_errors="replace", options={"protocol_whitelist": "file"}) as container:
            pictures = [stream for stream in container.streams.video if not stream.disposition & av.stream.Disposition.attached_pic]
            return "video" if pictures else "audio" if container.streams.audio else None
    except av.FFmpegError:
        return None
