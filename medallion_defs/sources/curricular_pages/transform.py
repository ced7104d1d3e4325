"""Curricular pages: from a label and its image to one row of `silver.curricular_pages`. Pure, but for reading the two.

What a label says is taken as it is: its makers have changed its fields more than once, and whoever asks about it reads all of it.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec

from medallion_defs.silver.contract import FileFacts, InvalidRecord
from medallion_defs.silver.exact_json import decode_exactly
from medallion_defs.storage.item import Artifact

# What names an image: another version may answer otherwise.
LIBRARIES = ("filetype",)

MAX_ID_BYTES = 2_048  # a key's entry in a btree holds 2,704 bytes
_KEY = re.compile(r"([^:/.][^:/]*):([^:/.][^:/]*):(\d{4}):(\d{1,6})")
_HEAD_BYTES = 8_192
_ENCODER = msgspec.json.Encoder(decimal_format="number")  # a decimal keeps its digits
_MIME_TYPES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}


class Row(msgspec.Struct):
    """One row of `silver.curricular_pages`: the source's own columns, in table order."""

    page_key: str
    state: str
    school: str
    year: int
    page_num: int
    label: str
    mime_type: str
    bytes: int
    content_sha256: str
    bronze_path: str
    artifact: str


def read_file(path: Path, item: FileFacts) -> tuple[object, ...]:
    """Return the values of `Row`, then the quality flags joined by commas. `path` is the label; the image lies beside it.

    Raises:
        InvalidRecord: the key is none of a page, the label is no JSON object, or the image is none.
    """
    state, school, year, page_num = _parse_key(item.external_id)
    label, flags = _read_label(path, item)
    image = _image_of(item)
    mime_type = _guess_mime_type(path.with_name(image.name), item)
    flags += "" if label else ",empty_label"
    if mime_type != _MIME_TYPES.get(image.name.rpartition(".")[2]):
        flags += ",mislabeled_image"
    return (
        item.external_id, state, school, year, page_num, _ENCODER.encode(label).decode(), mime_type, image.bytes,
        _content_sha256(item), item.bronze_path, image.name, flags[1:],
    )  # fmt: skip


def _content_sha256(item: FileFacts) -> str:
    # With the key: pages without text look alike, and each is asked about and marked as itself.
    parts = sorted(f"{artifact.name}\0{artifact.sha256}" for artifact in item.artifacts)
    return hashlib.sha256("\n".join((item.external_id, *parts)).encode()).hexdigest()


def _parse_key(key: str) -> tuple[str, str, int, int]:
    match = _KEY.fullmatch(key)
    if match is None or len(key.encode()) > MAX_ID_BYTES:
        raise InvalidRecord("invalid_value", f"'{key[:200]}' is no page: a key is state:school:year:page_num. Rename its folders.")
    return match[1], match[2], int(match[3]), int(match[4])


def _read_label(path: Path, item: FileFacts) -> tuple[dict[str, Any], str]:
    """Return the label and its quality flags, a comma before each."""
    raw = path.read_bytes()
    try:
        decoded = decode_exactly(raw.removeprefix(b"\xef\xbb\xbf"))
        label = msgspec.convert(decoded.value, dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise InvalidRecord("malformed_json", f"{item.external_id}: the label is not a JSON object: {error}. Repair it.") from error
    if decoded.repeated_key is not None:
        key = decoded.repeated_key[:100]
        raise InvalidRecord("repeated_key", f"{item.external_id}: the key '{key}' stands more than once in the label. Repair it.")
    if "\0" in _text_of(label):
        raise InvalidRecord("nul_character", f"{item.external_id}: the label holds a NUL character, which no Postgres text can. Repair it.")
    return label, ",repeated_key" if decoded.has_renamed else ""


def _text_of(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(f"{name}{_text_of(part)}" for name, part in value.items())
    if isinstance(value, list):
        return "".join(_text_of(part) for part in value)
    return value if isinstance(value, str) else ""


def _image_of(item: FileFacts) -> Artifact:
    images = [artifact for artifact in item.artifacts if artifact.name.partition(".")[0] == "image"]
    if len(images) != 1:
        raise InvalidRecord("not_media", f"{item.external_id} has {len(images)} images in {item.bronze_path}; a page has one.")
    return images[0]


def _guess_mime_type(path: Path, item: FileFacts) -> str:
    import filetype  # only loads pay for it

    with path.open("rb") as file:
        guess: str | None = filetype.guess_mime(file.read(_HEAD_BYTES))
    if guess is None or not guess.startswith("image/"):
        raise InvalidRecord("not_media", f"{item.external_id}: the image is none; its first bytes say {guess or 'nothing'}. Replace it.")
    return guess
