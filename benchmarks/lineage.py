"""Lineage at size: one warm trace in each direction over ten million silver and ten million gold rows, and what one huge item costs.

An embedded server of its own is filled by plain SQL (not measured): events in items of ten records and one item with a tenth of all;
every company in an item of its own, and named by ten events. The sampled items lie on the disk with their `_item.json`, so that a trace
reads the sha256 of the file. Each figure is of single traces on one connection, after one round over the same rows that is not timed.

    python benchmarks/lineage.py --folder <a folder on the disk>          # 12 GB, ten minutes
    python benchmarks/lineage.py --rows 100000                            # to try it
"""

import argparse
import hashlib
import random
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import LiteralString

import psycopg

from medallion_defs.core.ids import file_id
from medallion_defs.enrichments.driver_events_enriched.enrichment import ENRICHMENT
from medallion_defs.ops.impact import find_impact
from medallion_defs.ops.lineage import LineageSpec, trace_bronze, trace_gold, trace_silver
from medallion_defs.stack.migrate import migrate
from medallion_defs.stack.postgres import EmbeddedPostgres
from medallion_defs.storage.item import ITEM_FILE, Artifact, BronzeItem, encode_item
from medallion_defs.storage.local.reader import LocalReader

ROOT = Path(__file__).resolve().parent.parent
EVENTS = LineageSpec("silver.driver_events", "event_id")
COMPANIES = LineageSpec("silver.companies", "company_id")
GOLD = ENRICHMENT.lineage
FETCHED_AT = datetime(2026, 1, 1, tzinfo=UTC)
HUGE = "huge.csv"
PER_ITEM = 10

# `core.ids.file_id` in SQL: a million ids are then made where they are needed.
FILE_ID: LiteralString = """
CREATE OR REPLACE FUNCTION pg_temp.file_id(source_type text, external_id text) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT encode(set_byte(set_byte(id, 6, (get_byte(id, 6) & 15) | 128), 8, (get_byte(id, 8) & 63) | 128), 'hex')::uuid
    FROM (SELECT substr(sha256(
        int8send(4) || 'file'::bytea || int8send(length(source_type)) || source_type::bytea
        || int8send(length(external_id)) || external_id::bytea || int8send(1) || '1'::bytea
    ), 1, 16) AS id) AS hashed
$$
"""
PUT_ITEMS: LiteralString = """
INSERT INTO ops.file_ingestions (
    file_id, source_type, dataset, external_id, revision, bronze_path, content_sha256, bronze_bytes, bronze_filename,
    bronze_ingest_end_time,
    silver_run_id, silver_tablename, silver_ingest_start_time, silver_ingest_end_time, batch_id, attempts, code_version
)
SELECT pg_temp.file_id(%(source)s, name), %(source)s, %(source)s, name, 1, %(source)s || '/' || name, repeat('0', 64), 4096, name, at,
    'run-' || n / 500, 'silver.' || %(source)s, at, at, 'batch-' || n / 500, 1, 'v1'
FROM generate_series(1, %(items)s) AS n,
LATERAL (
    SELECT %(stem)s || lpad(n::text, 9, '0') || '.csv' AS name, timestamptz '2026-01-01 00:00Z' + n * interval '1 second' AS at
) AS item
UNION ALL
SELECT pg_temp.file_id(%(source)s, name), %(source)s, %(source)s, name, 1, %(source)s || '/' || name, repeat('0', 64), 4096, name, at,
    'run-0', 'silver.' || %(source)s, at, at, 'batch-0', 1, 'v1'
FROM (VALUES (%(huge)s, timestamptz '2026-12-01 00:00Z')) AS item (name, at) WHERE name IS NOT NULL
"""
PUT_COMPANIES: LiteralString = """
INSERT INTO silver.companies (company_id, name, sector, city, country, founded_year, file_id, source_record, bronze_at)
SELECT 'B' || lpad(n::text, 9, '0'), 'Company ' || n, 'Transport', 'New York', 'US', 1990,
    pg_temp.file_id('companies', 'companies-' || lpad(n::text, 9, '0') || '.csv'), 2,
    timestamptz '2026-01-01 00:00Z' + n * interval '1 second'
FROM generate_series(1, %(companies)s) AS n
"""
# The ten events of a company come from ten items; those past the last small item are the huge one's.
PUT_EVENTS: LiteralString = """
INSERT INTO silver.driver_events (event_id, driver_id, vehicle_id, company_id, event_type, event_at, latitude, longitude, speed_kmh,
    attributes, file_id, source_record, bronze_at)
SELECT 'event-' || lpad(n::text, 9, '0'), 'driver-' || n %% 5000, 'vehicle-' || n %% 3000,
    'B' || lpad((1 + n %% %(companies)s)::text, 9, '0'), 'Normal',
    timestamptz '2024-01-01 UTC' + n * interval '1 second', 40.7, -74, 50, '{"route": "Joplin to Kansas City"}',
    pg_temp.file_id('driver_events', CASE WHEN item > %(items)s THEN %(huge)s ELSE 'events-' || lpad(item::text, 9, '0') || '.csv' END),
    CASE WHEN item > %(items)s THEN n ELSE 1 + n %% 10 END, timestamptz '2026-01-01 00:00Z' + item * interval '1 second'
FROM generate_series(1, %(events)s) AS n, LATERAL (SELECT 1 + (n - 1) / 10 AS item) AS of
"""
SIZES: LiteralString = """
SELECT relation, pg_table_size(relation::regclass), pg_indexes_size(relation::regclass)
FROM unnest(ARRAY['ops.file_ingestions', 'silver.companies', 'silver.driver_events', 'gold.driver_events_enriched']) AS relation
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, help="silver events, and gold rows")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="where the server's files go; default: a temporary folder")
    parser.add_argument("--keep", action="store_true", help="keep the filled server in --folder, and use the one that is there")
    arguments = parser.parse_args()
    kept = arguments.folder if arguments.keep else None
    folder = kept or Path(tempfile.mkdtemp(prefix="medallion-benchmark-", dir=arguments.folder))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder / "postgres")
    is_filled = (folder / "filled").exists()
    try:
        server.start()
        migrate(ROOT, server.url())
        with psycopg.connect(server.url(), options="-c jit=off -c timezone=UTC") as db:
            if not is_filled:
                fill(db, arguments.rows)
                (folder / "filled").touch()
            measure(db, arguments, folder / "bronze")
    finally:
        server.stop()
        if kept is None:
            shutil.rmtree(folder)


def small_items(rows: int) -> int:
    """Items of ten events; the last tenth of the events is the huge item's."""
    return rows // PER_ITEM - rows // PER_ITEM // 10


def fill(db: psycopg.Connection, rows: int) -> None:
    started = time.perf_counter()
    companies, items = rows // PER_ITEM, small_items(rows)
    db.execute(FILE_ID)
    db.execute("SELECT set_config('work_mem', '512MB', false), set_config('max_parallel_workers_per_gather', '0', false)")
    db.execute(PUT_ITEMS, {"source": "driver_events", "stem": "events-", "items": items, "huge": HUGE})
    db.execute(PUT_ITEMS, {"source": "companies", "stem": "companies-", "items": companies, "huge": None})
    db.execute(PUT_COMPANIES, {"companies": companies})
    db.execute(PUT_EVENTS, {"companies": companies, "items": items, "events": rows, "huge": HUGE})
    db.commit()
    columns = ", ".join(column.name for column in ENRICHMENT.table.columns if column.name not in ("enriched_at", "updated_at"))
    db.execute(f"INSERT INTO gold.driver_events_enriched ({columns}) SELECT {columns} FROM ({ENRICHMENT.rows}) AS source ORDER BY event_id")
    db.commit()
    db.autocommit = True
    db.execute("VACUUM ANALYZE")
    db.execute("CHECKPOINT")
    db.execute("RESET ALL")
    db.autocommit = False
    print(f"filled in {time.perf_counter() - started:,.0f} s", flush=True)


def measure(db: psycopg.Connection, arguments: argparse.Namespace, folder: Path) -> None:
    rows, dice = arguments.rows, random.Random(12)
    for name, table, indexes in db.execute(SIZES).fetchall():
        count = db.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
        print(f"{name}: {count:,} rows, {table / 1e9:.2f} GB + {indexes / 1e9:.2f} GB of indexes")
    [(buffers,)] = db.execute("SELECT current_setting('shared_buffers')").fetchall()
    print(f"memory of the server: shared_buffers {buffers}, the rest is the system's cache of files")
    events = [f"event-{n:09}" for n in dice.sample(range(1, rows + 1), arguments.samples)]
    event_items = [f"events-{n:09}.csv" for n in dice.sample(range(1, small_items(rows) + 1), arguments.samples)]
    company_items = [f"companies-{n:09}.csv" for n in dice.sample(range(1, rows // PER_ITEM + 1), arguments.samples)]
    publish_all(db, folder, events, event_items, company_items)
    bronze = LocalReader(folder)
    silver, gold = [EVENTS, COMPANIES], [GOLD]
    show("one round trip", [lambda: db.execute("SELECT 1").fetchone()] * len(events), db)
    show("gold row → 2 silver rows → 2 files", [partial(trace_gold, db, GOLD, key, bronze) for key in events], db)
    show("silver row → file", [partial(trace_silver, db, EVENTS, key, bronze) for key in events], db)
    for what, source, names in (
        ("item → 10 events → 10 gold rows", "driver_events", event_items),
        ("item → 1 company → 10 gold rows", "companies", company_items),
    ):
        paths = [f"{source}/{name}" for name in names]
        show(what + ", by path", [partial(trace_bronze, db, path, silver, gold, bronze) for path in paths], db)
        ids = [file_id(source, name, 1) for name in names]
        show(what + ", by file id", [partial(trace_bronze, db, item, silver, gold, bronze) for item in ids], db)
    impacts = [partial(find_impact, db, f"driver_events/{name}", silver, gold, bronze) for name in event_items[:20]]
    show("impact of an item of 10 events", impacts, db)
    huge = file_id("driver_events", HUGE, 1)
    show(f"item → {rows // 10:,} events → {rows // 10:,} gold rows", [partial(trace_bronze, db, huge, silver, gold)] * 20, db)
    count_all = partial(trace_bronze, db, huge, silver, gold, most_counted=None)
    show("the same, every row counted", [count_all] * 20, db)
    show(f"impact of an item of {rows // 10:,} events", [partial(find_impact, db, huge, silver, gold)] * 10, db)
    for table in trace_bronze(db, huge, silver, gold).gold:
        print(f"the answer for that item: {table}")
    print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


def publish_all(
    db: psycopg.Connection, bronze: Path, events: Sequence[str], event_items: Sequence[str], company_items: Sequence[str]
) -> None:
    """Put on the disk the items of all rows and items that are traced."""
    paths = {*(f"driver_events/{name}" for name in event_items), *(f"companies/{name}" for name in company_items)}
    found = db.execute(
        """SELECT item.bronze_path FROM gold.driver_events_enriched AS gold
        JOIN ops.file_ingestions AS item ON item.file_id IN (gold.event_file_id, gold.company_file_id)
        WHERE gold.event_id = ANY(%s)""",
        (list(events),),
    )
    paths |= {path for (path,) in found}
    for path in paths:
        source, name = path.split("/")
        content = name.encode()
        artifact = Artifact("events.csv", "text/csv", len(content), hashlib.sha256(content).hexdigest())
        item = BronzeItem(source, name, 1, name, name, f"landing/{path}", FETCHED_AT, "0" * 64, (artifact,))
        (bronze / path).mkdir(parents=True, exist_ok=True)
        (bronze / path / ITEM_FILE).write_bytes(encode_item(item))
    db.commit()


def show(what: str, calls: Sequence[Callable[[], object]], db: psycopg.Connection) -> None:
    """Print median and 95th percentile of the calls, each in a transaction of its own, after an untimed round."""
    times: list[float] = []
    for is_timed in (False, True):
        for call in calls:
            started = time.perf_counter()
            call()
            times += [1000 * (time.perf_counter() - started)] * is_timed
            db.commit()
    p95 = statistics.quantiles(times, n=20)[-1]
    print(f"{what}: median {statistics.median(times):.2f} ms, p95 {p95:.2f} ms, worst {max(times):.2f} ms", flush=True)


if __name__ == "__main__":
    main()
