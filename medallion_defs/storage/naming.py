"""Names on disk: external id → directory name, file name → artifact name and media type.

Pure functions. A directory name never leaves its folder, never hides, never collides with another id on a file
system that ignores case, and can be read back by a person; `docs/reference/bronze-format.md` shows how.
"""

import re
from hashlib import sha256

from medallion_defs.core.errors import TerminalError

MAX_NAME_LENGTH = 200  # file systems stop at 255 bytes; the rest is room for `@revision`
_PREFIX_LENGTH = 120

_PLAIN = re.compile(r"[a-z0-9-][a-z0-9._-]*")
_ESCAPED = re.compile(rb"^[._]|[^A-Za-z0-9._-]")
_EXTENSION = re.compile(r"[a-z0-9]{1,16}")
_COMPRESSIONS = ("gz", "bz2", "xz", "zst")
_MEDIA_TYPES = {
    "bz2": "application/x-bzip2",
    "csv": "text/csv",
    "flac": "audio/flac",
    "gz": "application/gzip",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "json": "application/json",
    "jsonl": "application/x-ndjson",
    "mp3": "audio/mpeg",
    "mp4": "video/mp4",
    "ndjson": "application/x-ndjson",
    "parquet": "application/vnd.apache.parquet",
    "pdf": "application/pdf",
    "png": "image/png",
    "tsv": "text/tab-separated-values",
    "txt": "text/plain",
    "wav": "audio/wav",
    "webp": "image/webp",
    "xml": "application/xml",
    "xz": "application/x-xz",
    "zip": "application/zip",
    "zst": "application/zstd",
}


class InvalidExternalIdError(TerminalError):
    """The external id cannot name a bronze item."""


def encode_external_id(external_id: str) -> str:
    """Return the directory name of an external id: one to 200 characters of `[A-Za-z0-9._%~-]`.

    Every other byte of the UTF-8 text becomes `%xx`, also a leading `.` or `_`. An id with capitals ends in `~` and a
    hexadecimal number whose bit n says that character n is a capital, because `A.csv` and `a.csv` are one name to
    some file systems. A longer name keeps its start and ends in `~~` and the sha256 of the id.

    Raises:
        InvalidExternalIdError: the id is empty, absolute, not UTF-8, or contains NUL or a `..` step.
    """
    if len(external_id) <= MAX_NAME_LENGTH and _PLAIN.fullmatch(external_id):
        return external_id
    raw = _check_external_id(external_id)
    name = _ESCAPED.sub(lambda match: b"%%%02x" % match[0][0], raw).decode("ascii")
    capitals = sum(1 << place for place, character in enumerate(external_id) if "A" <= character <= "Z")
    encoded = f"{name}~{capitals:x}" if capitals else name
    return encoded if len(encoded) <= MAX_NAME_LENGTH else f"{name[:_PREFIX_LENGTH]}~~{sha256(raw).hexdigest()}"


def _check_external_id(external_id: str) -> bytes:
    try:
        raw = external_id.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidExternalIdError(f"External id {external_id!r} is not UTF-8. Rename it at the source.") from error
    wrong = None
    if not raw:
        wrong = "is empty"
    elif b"\0" in raw:
        wrong = "contains a NUL character"
    elif raw.startswith(b"/"):
        wrong = "is an absolute path"
    elif b".." in raw.split(b"/"):
        wrong = "contains the step '..'"
    if wrong:
        raise InvalidExternalIdError(f"External id {external_id[:200]!r} {wrong}. Rename it at the source.")
    return raw


def revision_directory(name: str, revision: int) -> str:
    """Return the directory of one revision of the item whose encoded name is `name`: `x`, `x@2`, `x@3` …"""
    return name if revision == 1 else f"{name}@{revision}"


def artifact_name(artifact_type: str, filename: str) -> str:
    """Return `{artifact_type}.{ext}` for a file as it came: `events.csv`, `events.jsonl.gz`; `.bin` without a usable extension."""
    parts = filename.lower().split(".")[1:][-2:]
    parts = parts if parts[1:] and parts[1] in _COMPRESSIONS else parts[-1:]
    usable = [part for part in parts if _EXTENSION.fullmatch(part)]
    return ".".join((artifact_type, *(usable or ("bin",))))


def media_type(name: str) -> str:
    """Return the media type of an artifact by the last part of its extension."""
    return _MEDIA_TYPES.get(name.rpartition(".")[2], "application/octet-stream")
