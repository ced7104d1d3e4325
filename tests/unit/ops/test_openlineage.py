"""How an installation names its datasets to others, and how the setting is written."""

import pytest
from pydantic import ValidationError

from medallion_defs.core.sections import OpenLineageSettings
from medallion_defs.ops.openlineage import Names


@pytest.mark.parametrize(
    ("url", "namespace", "database"),
    [
        ("postgresql://user:secret@db.example:5433/fleet?sslmode=require", "postgres://db.example:5433", "fleet"),
        ("postgresql://user:secret@db.example/fleet", "postgres://db.example:5432", "fleet"),
        ("postgresql://medallion:secret@/medallion?host=%2Frun%2Fpostgres", "postgres://localhost:5432", "medallion"),
    ],
)
def test_tables_are_named_by_the_address_of_the_database_without_login(url: str, namespace: str, database: str) -> None:
    names = Names.of("medallion", url, "/bronze")
    assert (names.postgres, names.database) == (namespace, database)
    assert "secret" not in str(names)


def test_events_go_to_one_place() -> None:
    with pytest.raises(ValidationError, match="set one of them"):
        OpenLineageSettings.model_validate({"url": "http://localhost", "file": "events.jsonl"})
    with pytest.raises(ValidationError, match="URL scheme should be 'http' or 'https'"):
        OpenLineageSettings.model_validate({"url": "ftp://localhost"})
