"""How a person says which part of history a run works on again: the same words for silver and gold, in the launchpad and in code."""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from uuid import UUID

import msgspec

from medallion_defs.core.errors import ConfigurationError


class RunScope(Enum):
    """What a run works on when no sensor hands it a batch or a range: what is open, or a part of history again."""

    pending = "pending"
    all = "all"
    since = "since"
    file_ids = "file_ids"


class Scope(msgspec.Struct, frozen=True):
    """A part of history: everything (nothing set), what was fetched `since` an instant, or the items `file_ids`."""

    since: datetime | None = None
    file_ids: tuple[UUID, ...] | None = None

    @property
    def is_all(self) -> bool:
        return self.since is None and self.file_ids is None


def parse_scope(scope: RunScope, since: str | None, file_ids: Sequence[str]) -> Scope:
    """Return the part of history that a run's configuration means.

    Raises:
        ConfigurationError: the scope lacks its value, or a value is not what it should be.
    """
    if scope is RunScope.since:
        return Scope(since=parse_time("since", since))
    if scope is RunScope.file_ids:
        if not file_ids:
            raise ConfigurationError("scope file_ids needs the setting 'file_ids': the ids of items, as 'medallion trace' shows them.")
        return Scope(file_ids=tuple(_parse_id(text) for text in file_ids))
    return Scope()


def parse_time(name: str, text: str | None) -> datetime:
    """Return the instant that the setting `name` holds.

    Raises:
        ConfigurationError: there is none, it is no time, or it has no time zone.
    """
    if not text:
        raise ConfigurationError(f"The setting '{name}' is missing: a time with a zone, such as 2026-11-20T00:00:00+00:00.")
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigurationError(f"{name}: '{text}' is no time. Write ISO 8601 with a zone, such as 2026-11-20T00:00:00+00:00.") from error
    if parsed.tzinfo is None:
        raise ConfigurationError(f"{name}: '{text}' has no time zone. Write it with one, such as {text}+00:00.")
    return parsed


def _parse_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise ConfigurationError(f"file_ids: '{text}' is no file id. 'medallion trace data/bronze/…' shows an item's id.") from error
