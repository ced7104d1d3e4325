"""Gold: rows per second of a first fill in chunks, of small increments on top of it, and of a company that changes.

Silver is filled by plain SQL (not measured), on an embedded server of its own. Beside the engine's figures stand, on the same
rows: the plain `INSERT … SELECT` of the whole join into an empty table with the same indexes (the floor of what Postgres needs), the plan
of a sensor tick with nothing new, with a lost cursor, the reconciliation of all rows, and the median of a trace in both directions.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import psycopg

from medallion_defs.core.ids import file_id
from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.gold.enrich import enrich, read_unmatched
from medallion_defs.gold.feed import plan
from medallion_defs.gold.reconcile import reconcile
from medallion_defs.ops.lineage import LineageSpec, trace_bronze, trace_gold
from medallion_defs.ops.scope import Scope
from medallion_defs.stack.migrate import migrate
from medallion_defs.stack.postgres import EmbeddedPostgres

ROOT = Path(__file__).resolve().parent.parent
EVENTS = LineageSpec("silver.driver_events", "event_id")
COMPANIES = LineageSpec("silver.companies", "company_id")

PUT_EVENTS = """
INSERT INTO silver.driver_events (event_id, driver_id, vehicle_id, company_id, event_type, event_at, latitude, longitude, speed_kmh,
    attributes, file_id, source_record, bronze_at)
SELECT md5(n::text), 'driver-' || n %% 5000, 'vehicle-' || n %% 3000, 'B' || lpad((n %% %(companies)s)::text, 5, '0'), 'Normal',
    timestamptz '2024-01-01 UTC' + n * interval '1 second', 40.7, -74, 50, '{"route": "Joplin to Kansas City"}',
    (%(files)s::uuid[])[1 + n %% cardinality(%(files)s::uuid[])], n, '2024-05-01 UTC'
FROM generate_series(%(first)s::int, %(last)s::int) AS n
"""
PUT_COMPANIES = """
INSERT INTO silver.companies (company_id, name, sector, city, country, founded_year, file_id, source_record, bronze_at)
SELECT 'B' || lpad(n::text, 5, '0'), 'Company ' || n, 'Transport', 'New York', 'US', 1990, %(file)s, n + 1, '2024-05-01 UTC'
FROM generate_series(0, %(companies)s::int - 1) AS n
"""
PUT_LEDGER = """
INSERT INTO ops.file_ingestions (file_id, source_type, external_id, revision, bronze_path, content_sha256)
VALUES (%s, %s, %s, 1, %s, 'c')
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--companies", type=int, default=1_000)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--max-rows", type=int, nargs="+", default=[500_000, 100_000])
    parser.add_argument("--increment", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the server's files go; default: a temporary folder")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="medallion-benchmark-", dir=arguments.folder))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder / "postgres")
    try:
        server.start()
        migrate(ROOT, server.url())
        with psycopg.connect(server.url(), options="-c jit=off -c timezone=UTC") as db:
            measure(db, arguments)
    finally:
        server.stop()
        shutil.rmtree(folder)


def measure(db: psycopg.Connection, arguments: argparse.Namespace) -> None:
    files = [("driver_events", f"events-{n}.csv") for n in range(arguments.files)]
    ids = [file_id(source, name, 1) for source, name in files]
    companies_file = file_id("companies", "companies.csv", 1)
    for source, name in [*files, ("companies", "companies.csv")]:
        db.execute(PUT_LEDGER, (file_id(source, name, 1), source, name, f"{source}/{name}"))
    db.execute(PUT_COMPANIES, {"companies": arguments.companies, "file": companies_file})
    put_events(db, arguments, ids, 1, arguments.events)
    vacuum(db)
    first_fills(db, arguments)
    vacuum(db)
    cursor = plan(db, ENRICHMENT, 0, 1000).positions.lookup
    db.commit()
    ticks(db, arguments, cursor)
    increments(db, arguments, ids, cursor)
    company_changes(db, arguments)
    reconciliations(db, arguments)
    traces(db, ids[0], companies_file)


def put_events(db: psycopg.Connection, arguments: argparse.Namespace, ids: list[UUID], first: int, last: int) -> None:
    db.execute(PUT_EVENTS, {"companies": arguments.companies, "files": ids, "first": first, "last": last})
    db.commit()


def vacuum(db: psycopg.Connection) -> None:
    db.commit()
    db.autocommit = True
    db.execute("VACUUM ANALYZE")
    db.execute("CHECKPOINT")
    db.autocommit = False


def first_fills(db: psycopg.Connection, arguments: argparse.Namespace) -> None:
    """The plain join and each chunk size, interleaved."""
    seconds: dict[str, list[float]] = {}
    for _ in range(3):
        for max_rows in (None, *arguments.max_rows):
            db.execute("TRUNCATE gold.driver_events_enriched")
            vacuum(db)
            name = "plain INSERT … SELECT" if max_rows is None else f"enrich, chunks of {max_rows:,}"
            started = time.perf_counter()
            plain_insert(db) if max_rows is None else drain(db, 0, max_rows)
            seconds.setdefault(name, []).append(time.perf_counter() - started)
    floor = statistics.median(seconds["plain INSERT … SELECT"])
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"first fill, {name}: {arguments.events / median:,.0f} rows/s ({median:.1f} s), {floor / median:.2f} of the plain insert")


def plain_insert(db: psycopg.Connection) -> None:
    columns = ", ".join(column.name for column in ENRICHMENT.table.columns if column.name not in ("enriched_at", "updated_at"))
    db.execute(f"INSERT INTO gold.driver_events_enriched ({columns}) SELECT {columns} FROM ({ENRICHMENT.rows}) AS source ORDER BY event_id")
    db.commit()


def drain(db: psycopg.Connection, cursor: int, max_rows: int) -> int:
    while (found := plan(db, ENRICHMENT, cursor, max_rows)).work:
        enrich(db, ENRICHMENT, found.work)
        db.commit()
        cursor = found.positions.lookup
    db.commit()
    return found.positions.lookup


def ticks(db: psycopg.Connection, arguments: argparse.Namespace, cursor: int) -> None:
    print(f"plan, nothing new: {median_ms(db, lambda: plan(db, ENRICHMENT, cursor, 500_000), 50):.2f} ms")
    print(f"plan, cursor lost: {median_ms(db, lambda: plan(db, ENRICHMENT, 0, 500_000), arguments.repeats):.0f} ms")
    print(f"unmatched report: {median_ms(db, lambda: read_unmatched(db, ENRICHMENT), arguments.repeats):.0f} ms")


def increments(db: psycopg.Connection, arguments: argparse.Namespace, ids: list[UUID], cursor: int) -> None:
    times = []
    for number in range(arguments.repeats):
        first = arguments.events + 1 + number * arguments.increment
        put_events(db, arguments, ids, first, first + arguments.increment - 1)
        times.append(timed(lambda: drain(db, cursor, 500_000)))
    print(f"increment of {arguments.increment:,} new events (two plans, enrich, commit): {1000 * statistics.median(times):.0f} ms")


def company_changes(db: psycopg.Connection, arguments: argparse.Namespace) -> None:
    """Change as many companies as name 10,000 events."""
    count = max(1, 10_000 * arguments.companies // arguments.events)
    cursor = plan(db, ENRICHMENT, 0, 500_000).positions.lookup
    plans, runs = [], []
    for number in range(arguments.repeats):
        changed = "UPDATE silver.companies SET name = %s WHERE company_id IN (SELECT company_id FROM silver.companies ORDER BY 1 LIMIT %s)"
        db.execute(changed, (f"Name {number}", count))
        db.commit()
        plans.append(timed(lambda cursor=cursor: plan(db, ENRICHMENT, cursor, 500_000)))
        db.commit()
        started = time.perf_counter()
        cursor = drain(db, cursor, 500_000)
        runs.append(time.perf_counter() - started)
    plan_ms, all_ms = 1000 * statistics.median(plans), 1000 * statistics.median(runs)
    print(f"{count} companies with 10,000 events change: plan {plan_ms:.0f} ms; plan, enrich, plan {all_ms:.0f} ms")


def reconciliations(db: psycopg.Connection, arguments: argparse.Namespace) -> None:
    vacuum(db)

    def run() -> None:
        for _ in reconcile(db, ENRICHMENT, Scope(), max_rows=500_000):
            db.commit()

    seconds = timed(run)
    print(f"reconcile, nothing wrong: {seconds:.1f} s, {arguments.events / seconds:,.0f} rows/s")
    db.execute("UPDATE gold.driver_events_enriched SET company_name = 'x'")
    vacuum(db)
    seconds = timed(run)
    print(f"reconcile, every row wrong: {seconds:.1f} s, {arguments.events / seconds:,.0f} rows/s")


def traces(db: psycopg.Connection, events_file: UUID, companies_file: UUID) -> None:
    vacuum(db)
    keys = [key for (key,) in db.execute("SELECT event_id FROM gold.driver_events_enriched TABLESAMPLE SYSTEM (1) LIMIT 500").fetchall()]
    steps = iter(keys)
    print(f"trace gold → record: {median_ms(db, lambda: trace_gold(db, ENRICHMENT.lineage, next(steps)), len(keys)):.2f} ms")
    print(f"one round trip: {median_ms(db, lambda: db.execute('SELECT 1').fetchone(), 500):.2f} ms")
    for name, item in (("a file of events", events_file), ("the file of all companies", companies_file)):
        trace = trace_bronze(db, item, [EVENTS, COMPANIES], [ENRICHMENT.lineage])
        rows = sum(table.rows for table in (*trace.silver, *trace.gold))
        milliseconds = median_ms(db, lambda item=item: trace_bronze(db, item, [EVENTS, COMPANIES], [ENRICHMENT.lineage]), 20)
        print(f"trace {name} → {rows:,} silver and gold rows: {milliseconds:.1f} ms")


def median_ms(db: psycopg.Connection, call: Callable[[], object], repeats: int) -> float:
    """Median of `repeats` calls, each in a transaction of its own."""
    times = []
    for _ in range(repeats):
        times.append(timed(call))
        db.commit()
    return 1000 * statistics.median(times)


def timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
