"""What Postgres can keep of values that came from outside: text without NUL, numbers within their columns, times with a zone. Pure."""

from medallion_defs.core.errors import TerminalError
from medallion_defs.ops.item import BronzeItem

_INT4_MAX, _INT8_MAX = 2**31 - 1, 2**63 - 1


def storable_text(text: str) -> str:
    """Replace what Postgres text cannot hold: NUL, and halves of surrogate pairs (file names that are not UTF-8)."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\x00", "␀")


def require_storable(item: BronzeItem) -> None:
    """Make sure that the ledger can keep what an item says of itself.

    Raises:
        TerminalError: it cannot.
    """
    texts = (item.source_type, item.external_id, item.directory, item.filename, item.content_sha256, item.run_id or "")
    if any(storable_text(text) != text for text in texts):
        raise TerminalError(f"{item.path!r}: a text of the item holds a NUL or a broken character.")
    if not 1 <= item.revision <= _INT4_MAX or not 0 <= item.bytes <= _INT8_MAX:
        raise TerminalError(f"{item.path!r}: revision {item.revision} or size {item.bytes} is out of range.")
    if item.fetched_at.tzinfo is None:
        raise TerminalError(f"{item.path!r}: fetched_at {item.fetched_at} has no time zone.")
