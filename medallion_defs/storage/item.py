"""The written form of a bronze item: `_item.json` in its directory and, the same text, one line of `_index.jsonl`.

Shared by the layers because they meet in this file, not in Python. Nothing here reads or writes a disk.
"""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from hashlib import sha256
from uuid import UUID

import msgspec

from medallion_defs.core import ids
from medallion_defs.core.errors import TerminalError

ITEM_FILE = "_item.json"
INDEX_FILE = "_index.jsonl"
STAGING_FOLDER = ".staging"
_INT4_MAX, _INT8_MAX = 2**31 - 1, 2**63 - 1
# Clocks of two machines that are kept in step differ by less.
AHEAD = timedelta(minutes=1)


class Artifact(msgspec.Struct, frozen=True):
    """One file of an item. `name` is `{artifact_type}.{ext}`; `sha256` is lower-case hex of its bytes."""

    name: str
    media_type: str
    bytes: int
    sha256: str


class BronzeItem(msgspec.Struct, frozen=True, omit_defaults=True):
    """One immutable revision of one item.

    Attributes:
        source_type: the folder under `data/bronze`.
        external_id: the id as the source gave it, before any encoding.
        revision: 1, 2, … in order of publication.
        directory: the item's folder name below its source type (encoded id, `@2` for the second revision).
        filename: the file name as it came.
        origin: where it came from, for a person (`landing/driver_events/x.csv`).
        fetched_at: when it was fetched, UTC.
        content_sha256: hash over the sorted (name, sha256) of its artifacts.
        run_id: the Dagster run that fetched it, if one did.
        from_date, to_date: the days that the item covers, where the fetcher knows.
        note: what is odd about its being fetched, for a person: why `fetched_at` is not what the fetcher's clock said.
    """

    source_type: str
    external_id: str
    revision: int
    directory: str
    filename: str
    origin: str
    fetched_at: datetime
    content_sha256: str
    artifacts: tuple[Artifact, ...]
    run_id: str | None = None
    from_date: date | None = None
    to_date: date | None = None
    note: str | None = None

    @property
    def file_id(self) -> UUID:
        """The key of this revision in the ledger and in every row made from it."""
        return ids.file_id(self.source_type, self.external_id, self.revision)

    @property
    def bytes(self) -> int:
        """Bytes of all artifacts together."""
        return sum(artifact.bytes for artifact in self.artifacts)

    @property
    def path(self) -> str:
        """The directory relative to the bronze root: `driver_events/fleet.csv@2`."""
        return f"{self.source_type}/{self.directory}"


def content_sha256(artifacts: Iterable[Artifact]) -> str:
    """Return the hash that decides whether two revisions of an item are the same: over the sorted (name, sha256)."""
    return sha256("".join(sorted(f"{artifact.name}\0{artifact.sha256}\n" for artifact in artifacts)).encode()).hexdigest()


def require_storable(item: BronzeItem) -> None:
    """Make sure that a ledger can keep what the item says of itself.

    Raises:
        TerminalError: it holds NUL or broken text, a number out of range, or a time without a zone.
    """
    texts = (item.source_type, item.external_id, item.directory, item.filename, item.content_sha256, item.run_id or "")
    if any("\0" in text or text.encode("utf-8", "replace").decode() != text for text in texts):
        raise TerminalError(f"{item.path!r}: a text of the item holds a NUL or a broken character.")
    if not 1 <= item.revision <= _INT4_MAX or not 0 <= item.bytes <= _INT8_MAX:
        raise TerminalError(f"{item.path!r}: revision {item.revision} or size {item.bytes} is out of range.")
    if item.fetched_at.tzinfo is None:
        raise TerminalError(f"{item.path!r}: fetched_at {item.fetched_at} has no time zone.")


def is_ahead(fetched_at: datetime, now: datetime) -> bool:
    """Whether an item is dated in the future."""
    return fetched_at - now > AHEAD


def encode_item(item: BronzeItem) -> bytes:
    """Return the item as one line of JSON, newline at the end."""
    return msgspec.json.encode(item) + b"\n"


_DECODER = msgspec.json.Decoder(BronzeItem)


def decode_item(line: bytes) -> BronzeItem:
    """Parse `_item.json` or one index line.

    Raises:
        msgspec.DecodeError: the text is not JSON, or not an item (`msgspec.ValidationError`).
    """
    return _DECODER.decode(line)
