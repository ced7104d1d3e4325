"""Silver rows for the tests of gold, written by plain SQL: no loader, no file."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from uuid import UUID

import psycopg

from medallion_defs.core.ids import file_id
from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.gold.enrich import EnrichResult, enrich
from medallion_defs.gold.feed import plan

EVENTS_FILE = file_id("driver_events", "events.csv", 1)
COMPANIES_FILE = file_id("companies", "companies.csv", 1)
FETCHED_AT = datetime(2024, 5, 1, 12, tzinfo=UTC)


def put_events(
    db: psycopg.Connection, events: Mapping[str, str | None], *, file: UUID = EVENTS_FILE, fetched_at: datetime = FETCHED_AT
) -> None:
    """Insert or replace events, `{event_id: company_id}`; `source_record` counts from 1."""
    rows = [(event, company, file, record, fetched_at) for record, (event, company) in enumerate(events.items(), 1)]
    _put(
        db,
        """INSERT INTO silver.driver_events AS old (event_id, company_id, event_type, speed_kmh, file_id, source_record, bronze_at)
        VALUES (%s, %s, 'Normal', 50, %s, %s, %s)
        ON CONFLICT (event_id) DO UPDATE SET company_id = excluded.company_id, file_id = excluded.file_id,
            source_record = excluded.source_record, bronze_at = excluded.bronze_at""",
        rows,
    )


def put_companies(
    db: psycopg.Connection, companies: Mapping[str, str], *, file: UUID = COMPANIES_FILE, fetched_at: datetime = FETCHED_AT
) -> None:
    """Insert or replace companies, `{company_id: name}`."""
    rows = [(company, name, file, record, fetched_at) for record, (company, name) in enumerate(companies.items(), 1)]
    _put(
        db,
        """INSERT INTO silver.companies AS old (company_id, name, file_id, source_record, bronze_at)
        VALUES (%s, %s, %s, %s, %s)
        ON CONFLICT (company_id) DO UPDATE SET name = excluded.name, file_id = excluded.file_id,
            source_record = excluded.source_record, bronze_at = excluded.bronze_at""",
        rows,
    )


def _put(db: psycopg.Connection, query: str, rows: Iterable[tuple[object, ...]]) -> None:
    with db.cursor() as cursor:
        cursor.executemany(query, rows)
    db.commit()


def drain(db: psycopg.Connection, cursor: int = 0, max_rows: int = 1000) -> tuple[list[EnrichResult], int]:
    """Plan and enrich until nothing is left; return what each run did, and the cursor then."""
    results = []
    while (found := plan(db, ENRICHMENT, cursor, max_rows)).work:
        results.append(enrich(db, ENRICHMENT, found.work))
        db.commit()
        cursor = found.positions.lookup
        assert len(results) < 500, f"the plan never ends: {found}"
    db.commit()
    return results, found.positions.lookup


def read_gold(db: psycopg.Connection) -> dict[str, tuple[str | None, str | None, str]]:
    """Return `{event_id: (company_id, company_name, match_status)}` of gold."""
    rows = db.execute("SELECT event_id, company_id, company_name, match_status FROM gold.driver_events_enriched ORDER BY 1").fetchall()
    return {event: (company, name, status) for event, company, name, status in rows}


def count_differences(db: psycopg.Connection) -> int:
    """Count the rows by which gold differs from the plain LEFT JOIN of silver, every column compared."""
    [(differences,)] = db.execute(f"""
        WITH expected AS ({ENRICHMENT.rows}),
        present AS (SELECT {", ".join(c.name for c in ENRICHMENT.table.columns if c.name not in ("enriched_at", "updated_at"))}
            FROM gold.driver_events_enriched)
        SELECT count(*) FROM ((TABLE expected EXCEPT TABLE present) UNION ALL (TABLE present EXCEPT TABLE expected)) AS difference
        """).fetchall()
    return differences
