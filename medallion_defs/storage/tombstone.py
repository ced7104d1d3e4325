"""The written form of an item that was removed: `_removed.json` in its directory and, the same text, a line of `_index.jsonl`.

It keeps the place of the item, so that its revision is never given out again and the fetcher knows what it is offered. Of a
forgotten item only hashes stay: its directory is named by the hash of its external id as well. Nothing here touches a disk.
"""

from datetime import datetime
from hashlib import sha256
from uuid import UUID

import msgspec

from medallion_defs.storage.item import BronzeItem, decode_item

REMOVED_FILE = "_removed.json"
FORGET = "forget"
_HASHED = "sha256:"


class Tombstone(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is left of an item.

    The facts of the item lie one level deeper than in an item's line: a reader that knows items only fails on it, and does not
    take it for one.

    Attributes:
        removed_at: when it was removed, UTC.
        removed_by: the rule (`policy max_age_days 90`), or `forget`.
        file_id: of the item; for a forgotten one it can no longer be worked out from the rest.
        item: its facts; of a forgotten one with `sha256:…` for the external id, and no file name or origin.
    """

    removed_at: datetime
    removed_by: str
    file_id: UUID
    item: BronzeItem

    @property
    def is_forgotten(self) -> bool:
        return self.removed_by == FORGET

    @property
    def sentence(self) -> str:
        """When and by what, for a person."""
        return f"removed on {self.removed_at:%Y-%m-%d} by {self.removed_by}"


Entry = BronzeItem | Tombstone


def facts_of(entry: Entry) -> BronzeItem:
    """Return the item that an entry is, or was."""
    return entry.item if isinstance(entry, Tombstone) else entry


def subject_sha256(source_type: str, external_id: str) -> str:
    """Return the hash under which a forgotten external id is remembered."""
    return sha256(f"{source_type}/{external_id}".encode("utf-8", "surrogatepass")).hexdigest()


def hashed_id(source_type: str, external_id: str) -> str:
    """Return what stands for a forgotten external id: `sha256:…`."""
    return f"{_HASHED}{subject_sha256(source_type, external_id)}"


def forgotten_directory(source_type: str, external_id: str, revision: int = 1) -> str:
    """Return the directory name of a forgotten revision: `~{hash}`, `~{hash}@2` … No external id encodes to a name that starts with `~`."""
    name = f"~{subject_sha256(source_type, external_id)}"
    return name if revision == 1 else f"{name}@{revision}"


def bury(item: BronzeItem, at: datetime, by: str) -> Tombstone:
    """Return the tombstone of an item that a policy removes."""
    return Tombstone(at, by, item.file_id, item)


def bury_forgotten(item: BronzeItem, at: datetime) -> Tombstone:
    """Return the tombstone of an item that is forgotten: hashes, sizes, times, and nothing that a person wrote."""
    hidden = msgspec.structs.replace(
        item,
        external_id=hashed_id(item.source_type, item.external_id),
        directory=forgotten_directory(item.source_type, item.external_id, item.revision),
        filename="",
        origin="",
        from_date=None,
        to_date=None,
        note=None,
    )
    return Tombstone(at, FORGET, item.file_id, hidden)


def encode_tombstone(tombstone: Tombstone) -> bytes:
    """Return the tombstone as one line of JSON, newline at the end."""
    return msgspec.json.encode(tombstone) + b"\n"


_DECODER = msgspec.json.Decoder(Tombstone)


def decode_tombstone(line: bytes) -> Tombstone:
    """Parse a `_removed.json`.

    Raises:
        msgspec.DecodeError: the text is not JSON, or no tombstone (`msgspec.ValidationError`).
    """
    return _DECODER.decode(line)


def decode_line(line: bytes) -> Entry:
    """Parse one line of an index: of an item, or of one that was removed.

    Raises:
        msgspec.DecodeError: it is neither.
    """
    return decode_tombstone(line) if line.startswith(b'{"removed_at":') else decode_item(line)
