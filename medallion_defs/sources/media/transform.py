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
_STANDARD_NAMES = {"audio/x-aiff": "audio/aiff", "audio/x-flac": "audio/flac", "audio/x-wav": "audio/wav"}
# The first bytes of these name a container, which may hold pictures and sound, or sound alone.
_CONTAINERS = frozenset(
    {"audio/mp4", "audio/ogg", "video/3gpp", "video/mp4", "video/quicktime", "video/webm", "video/x-matroska", "video/x-ms-wmv"}
)


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
        InvalidRecord: the file is empty or no medium, or its id is too long for a key.
    """
    if len(item.external_id.encode()) > MAX_ID_BYTES:
        raise InvalidRecord("invalid_value", f"The file's path is longer than {MAX_ID_BYTES} bytes. Deliver it under a shorter one.")
    mime_type = _guess_mime_type(path, item)
    flags = ""
    if mime_type in _CONTAINERS:
        media_type = _look_into_container(path)
        flags = "" if media_type else ",unreadable_container"
        mime_type = f"{media_type or mime_type.partition('/')[0]}/{mime_type.partition('/')[2]}"
    media_type = mime_type.partition("/")[0]
    return (
        item.external_id, media_type, mime_type, item.filename,
        item.bytes, item.sha256, item.bronze_path, item.artifact, flags[1:],
    )  # fmt: skip


def _guess_mime_type(path: Path, item: FileFacts) -> str:
    import filetype  # only loads pay for it

    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head:
        raise InvalidRecord("empty_file", f"{item.filename} has no bytes. Deliver it again.")
    guess: str | None = filetype.guess_mime(head)
    if guess is None or not guess.startswith(("video/", "audio/", "image/")):
        raise InvalidRecord(
            "not_media", f"{item.filename} is no video, audio or image that is known: its first bytes say {guess or 'nothing'}. Remove it."
        )
    return _STANDARD_NAMES.get(guess, guess)


def _look_into_container(path: Path) -> str | None:
    """Return `video` when there are moving pictures (a cover is none), else `audio`; None when the streams cannot be listed."""
    import av

    try:
        # A playlist or a movie that refers to other files must not make us open them.
        with av.open(str(path), metadata_errors="replace", options={"protocol_whitelist": "file"}) as container:
            pictures = [stream for stream in container.streams.video if not stream.disposition & av.stream.Disposition.attached_pic]
            return "video" if pictures else "audio" if container.streams.audio else None
    except av.FFmpegError:
        return None
