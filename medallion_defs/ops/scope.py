"""How a person says which part of history a run works on again: the same words for silver and gold, in the launchpad and in code."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum
from uuid import UUID

import msgspec

from medallion_defs.core.code_version import CodeVersions
from medallion_defs.core.errors import ConfigurationError


class RunScope(Enum):
    """What a run works on when no sensor hands it a batch or a range: what is open, or a part of history again."""

    pending = "pending"
    all = "all"
    since = "since"
    file_ids = "file_ids"
    dataset = "dataset"
    outdated = "outdated"


class TaskScope(Enum):
    """The scopes of a task, which knows no dataset. The names are those of `RunScope`."""

    pending = RunScope.pending.value
    all = RunScope.all.value
    since = RunScope.since.value
    file_ids = RunScope.file_ids.value
    outdated = RunScope.outdated.value


# What the launchpad says of the fields that silver, gold and tasks have in common.
SCOPE_HELP = "pending: what is open (default). A part of history again: all; since, with the field since; file_ids, with the field file_ids"
FILE_IDS_HELP = (
    "With scope file_ids: the ids of bronze items, as the manifest, the table of failures and the check no_failed_items show them."
)
BEFORE_HELP = (
    "Only what was last processed before this time (ISO 8601 with a zone). To go on with a run that was stopped: the time "
    "that its log names. Default, and latest: when this run was requested."
)


class NothingMatchesError(ConfigurationError):
    """A person named a part of history, and there is nothing in it. Silence would look like success."""


class Scope(msgspec.Struct, frozen=True):
    """A part of history; everything when nothing is set.

    Attributes:
        since: what was fetched at this instant or later.
        file_ids: these items.
        dataset: a glob (`*`, `?`): items whose recipe gave them such a dataset.
        current_code: items that any other code than the present tried last.
    """

    since: datetime | None = None
    file_ids: tuple[UUID, ...] | None = None
    dataset: str | None = None
    current_code: CodeVersions | None = None

    @property
    def is_all(self) -> bool:
        return self == Scope()

    def __str__(self) -> str:
        """The scope in words: `since 2026-11-20T00:00:00+00:00`."""
        if self.since is not None:
            return f"since {self.since.isoformat()}"
        if self.file_ids is not None:
            return f"file_ids {', '.join(map(str, self.file_ids))}"
        if self.dataset is not None:
            return f"dataset {self.dataset}"
        return "outdated" if self.current_code is not None else "all"


def parse_scope(
    scope: RunScope,
    since: str | None = None,
    file_ids: Sequence[str] = (),
    dataset: str | None = None,
    *,
    current_code: CodeVersions | None = None,
) -> Scope:
    """Return the part of history that a run's configuration means.

    Args:
        current_code: what `outdated` compares with; None where rows do not depend on a code version.

    Raises:
        ConfigurationError: the scope lacks its value, a value is not what it should be, or belongs to another scope.
    """
    _refuse_strays(scope, {RunScope.since: since, RunScope.file_ids: file_ids, RunScope.dataset: dataset})
    if scope is RunScope.since:
        return Scope(since=parse_time("since", since))
    if scope is RunScope.file_ids:
        if not file_ids:
            raise ConfigurationError("scope file_ids needs the setting 'file_ids': the ids of items, as 'medallion trace' shows them.")
        return Scope(file_ids=tuple(_parse_id(text) for text in file_ids))
    if scope is RunScope.dataset:
        if not dataset:
            raise ConfigurationError("scope dataset needs the setting 'dataset': a dataset of a recipe, * and ? allowed, such as fhv_*.")
        return Scope(dataset=dataset)
    if scope is RunScope.outdated:
        return Scope(current_code=_require_code(current_code))
    return Scope()


def _refuse_strays(scope: RunScope, values: Mapping[RunScope, object]) -> None:
    # A forgotten scope must not make all of history out of one day.
    for owner, value in values.items():
        if value and owner is not scope:
            raise ConfigurationError(
                f"The setting '{owner.name}' is for scope {owner.name}, and the scope is {scope.name}. "
                f"Set scope: {owner.name}, or leave '{owner.name}' out."
            )


def _require_code(current_code: CodeVersions | None) -> CodeVersions:
    if current_code is None:
        raise ConfigurationError(
            "scope outdated is for silver: gold rows name no code version. scope all compares all of gold with what the code gives now, "
            "and writes only what differs."
        )
    return current_code


def scope_params(source_type: str, scope: Scope, before: datetime) -> dict[str, object]:
    """Return the parameters of queries on a source's items in `scope` that were last processed before `before`."""
    return {
        "source_type": source_type,
        "before": before,
        "since": scope.since,
        "file_ids": None if scope.file_ids is None else list(scope.file_ids),
        "dataset_like": None if scope.dataset is None else like_pattern(scope.dataset),
        **code_params(scope.current_code),
    }


def code_params(code: CodeVersions | None) -> dict[str, list[str] | None]:
    """Return what `ops.present_version` needs, as query parameters; both None where no code is compared with."""
    if code is None:
        return {"patterns": None, "versions": None}
    pairs = [*((like_pattern(pattern.lower()), version) for pattern, version in code.by_pattern), ("%", code.otherwise)]
    return {"patterns": [pattern for pattern, _ in pairs], "versions": [version for _, version in pairs]}


def like_pattern(glob: str) -> str:
    """Turn a glob of `*` and `?` into a LIKE pattern; LIKE's own wildcards lose their meaning."""
    escaped = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")


def parse_before(text: str | None, requested_at: datetime) -> datetime:
    """Return the time before which something must have been processed to be processed again: never after the request.

    What a backfill does is processed now. With a time in the future it would find it again, and never end.

    Raises:
        ConfigurationError: as `parse_time`.
    """
    return min(parse_time("before", text), requested_at) if text else requested_at


def require_match(matched: int, scope: Scope, what: str, before: datetime | None = None) -> None:
    """Refuse a part of history in which there is nothing.

    Args:
        what: what was looked for, and where such are seen: `item of driver_events; 'medallion ops files' lists them`.
        before: when a person named it.

    Raises:
        NothingMatchesError: nothing matches, and a part of history was named.
    """
    is_part = scope.since is not None or scope.file_ids is not None or scope.dataset is not None
    if matched or not (is_part or before is not None):
        return
    limit = "" if before is None else f", last processed before {before.isoformat()}"
    raise NothingMatchesError(f"nothing matches: scope {scope}{limit} holds no {what}.")


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
