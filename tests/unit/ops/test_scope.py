"""A scope that lacks its value, or has a wrong one, says so before anything runs."""

from datetime import UTC, datetime
from uuid import UUID

import pytest

from medallion_defs.core.code_version import CodeVersions
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.ops.scope import RunScope, Scope, parse_scope

CODE = CodeVersions((), "v2")
ID = "2df9d9f6-1fb0-8efb-87c3-f8507ca217c4"


def test_each_scope_means_its_part_of_history() -> None:
    assert parse_scope(RunScope.all, None, []).is_all
    assert parse_scope(RunScope.since, "2026-11-01T00:00:00+00:00", []) == Scope(since=datetime(2026, 11, 1, tzinfo=UTC))
    assert parse_scope(RunScope.file_ids, None, [ID]) == Scope(file_ids=(UUID(ID),))
    assert parse_scope(RunScope.dataset, dataset="fhv_*") == Scope(dataset="fhv_*")
    assert parse_scope(RunScope.outdated, current_code=CODE) == Scope(current_code=CODE)


@pytest.mark.parametrize(
    ("scope", "since", "file_ids", "hint"),
    [
        (RunScope.since, None, [], "'since' is missing"),
        (RunScope.since, "yesterday", [], "no time"),
        (RunScope.since, "2026-11-01T00:00:00", [], "no time zone"),
        (RunScope.file_ids, None, [], "needs the setting 'file_ids'"),
        (RunScope.file_ids, None, ["driver_events/x.csv"], "no file id"),
    ],
)
def test_a_scope_without_a_proper_value_is_refused(scope: RunScope, since: str | None, file_ids: list[str], hint: str) -> None:
    with pytest.raises(ConfigurationError, match=hint):
        parse_scope(scope, since, file_ids)


@pytest.mark.parametrize("scope", [RunScope.pending, RunScope.all, RunScope.outdated])
def test_a_value_of_another_scope_is_refused_instead_of_ignored(scope: RunScope) -> None:
    with pytest.raises(ConfigurationError, match="Set scope: since, or leave 'since' out"):
        parse_scope(scope, "2026-11-01T00:00:00+00:00", current_code=CODE)


def test_a_dataset_and_a_code_version_must_be_there() -> None:
    with pytest.raises(ConfigurationError, match="needs the setting 'dataset'"):
        parse_scope(RunScope.dataset)
    with pytest.raises(ConfigurationError, match="scope outdated is for silver"):
        parse_scope(RunScope.outdated)
