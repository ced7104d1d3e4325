"""Which silver columns a gold column comes from, as read from the SELECT that computes it."""

import pytest

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.gold.columns import SourceColumn, read_sources

FROM = "FROM silver.driver_events AS event LEFT JOIN silver.companies AS company ON company.company_id = event.company_id"


def sources(*items: str) -> dict[str, list[str]]:
    read = read_sources(f"SELECT {', '.join(items)} {FROM}")
    return {name: [f"{table}.{column}" for table, column in columns] for name, columns in read.items()}


def test_a_column_comes_from_the_column_that_it_is() -> None:
    assert sources("event.event_id", "company.name AS company_name") == {
        "event_id": ["driver_events.event_id"],
        "company_name": ["companies.name"],
    }


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ("CASE WHEN event.company_id IS NULL THEN 'event.city' ELSE company.city END", ["driver_events.company_id", "companies.city"]),
        ("coalesce(company.name, event.company_id, company.name)", ["companies.name", "driver_events.company_id"]),
        ("event.speed_kmh * 0.621371", ["driver_events.speed_kmh"]),
        ("event.company_id IS DISTINCT FROM company.company_id", ["driver_events.company_id", "companies.company_id"]),
        ("extract(epoch FROM event.event_at)::float8", ["driver_events.event_at"]),
        ("event.event_at AT TIME ZONE 'UTC' -- company.city\n", ["driver_events.event_at"]),
        ("EVENT.Event_Id || /* event.speed_kmh */ '-'", ["driver_events.event_id"]),
        ("'a constant, with a ''quote'''", []),
    ],
)
def test_an_expression_comes_from_every_column_in_it(expression: str, columns: list[str]) -> None:
    assert sources(f"{expression} AS value") == {"value": columns}


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        (f"SELECT event_id {FROM}", "has no name"),
        (f"SELECT upper(event_type) AS kind {FROM}", "is no column of a known table"),
        (f"SELECT driver.name AS driver {FROM}", "is no column of a known table"),
        (f"SELECT event.* {FROM}", "has no name"),
        (f"SELECT event.event_id, event.event_type || 'x' {FROM}", "has no name"),
        (f"SELECT event.city, company.city {FROM}", "names a column twice"),
        ("SELECT event.event_id FROM silver.driver_events event", "write 'FROM silver"),
        ("SELECT event.event_id FROM public.driver_events AS event", "write 'FROM silver"),
        ("WITH event AS (SELECT 1) SELECT event.id FROM event", "must be one SELECT"),
        (f"SELECT (SELECT max(company.name)) AS top {FROM}", "must be one SELECT"),
        ("SELECT 1 AS one", "has no FROM"),
        ("", "must be one SELECT"),
    ],
)
def test_what_cannot_be_read_for_certain_is_refused(query: str, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        read_sources(query)


def test_a_source_column_reads_as_a_pair() -> None:
    assert read_sources(f"SELECT event.event_id {FROM}")["event_id"] == (SourceColumn("driver_events", "event_id"),)
