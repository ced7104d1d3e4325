"""Deterministic identifiers: the same thing gets the same id on every machine and after every rebuild.

An id is a tagged sha256 cut to a UUID. The tag keeps kinds apart; the length prefix of each part keeps
("ab", "c") and ("a", "bc") apart.
"""

import hashlib
from uuid import UUID


def tagged_uuid(tag: str, *parts: str) -> UUID:
    """Return the UUID (version 8, RFC 9562) of `parts` under `tag`."""
    digest = hashlib.sha256()
    for part in (tag, *parts):
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    raw_id = bytearray(digest.digest()[:16])
    raw_id[6] = (raw_id[6] & 0x0F) | 0x80
    raw_id[8] = (raw_id[8] & 0x3F) | 0x80
    return UUID(bytes=bytes(raw_id))


def file_id(source_type: str, external_id: str, revision: int) -> UUID:
    """Return the id of one revision of one bronze item: the key of the ledger and of every row made from it."""
    return tagged_uuid("file", source_type, external_id, str(revision))


def task_id(task_key: str, media_type: str, file_hash: str, prompt_id: str) -> UUID:
    """Return the id of one question asked of one input: the key of its work, its events and its result."""
    return tagged_uuid("task", task_key, media_type, file_hash, prompt_id)
