"""How long one sensor tick takes: discover + claim + open batches, against a real Postgres whose ledger is as full as bronze.

For each size and mode, two medians: a tick with nothing new, and one with NEW items published since the last (registered,
and the first batches claimed). All known items are `loaded`, but for a few dead ones, as in a source that has run for a
year. Scanned items are real directories (with `_item.json`); indexed ones are index lines, since an index tick looks at
nothing else. Ledger rows are made by the server. Also printed: one full read of the index, as after a reindex, and the
plan of every query of a tick, with a warning at each sequential scan of the ledger.

    python benchmarks/discovery.py                  # scan 1k, 10k, 100k; index 1M
    python benchmarks/discovery.py --index 10000000 # 4 GB of index on disk, several minutes to prepare
"""

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, LiteralString

import psycopg

from medallion_defs.core import clock
from medallion_defs.core.sections import SourceSettings
from medallion_defs.ops import ledger as ledger_module
from medallion_defs.ops.ledger import Ledger
from medallion_defs.silver.discovery import Discovery, discover
from medallion_defs.stack.migrate import migrate
from medallion_defs.stack.postgres import EmbeddedPostgres
from medallion_defs.storage.item import INDEX_FILE, ITEM_FILE, Artifact, BronzeItem, encode_item
from medallion_defs.storage.local.reader import LocalReader
from medallion_defs.storage.reading import Cursor

ROOT = Path(__file__).resolve().parent.parent
SOURCE = "driver_events"
SETTINGS = SourceSettings(max_items=500, max_in_flight=2)
FETCHED_AT = datetime(2026, 1, 1, tzinfo=UTC)
FILL: LiteralString = """
    INSERT INTO ops.file_ingestions (
        file_id, source_type, external_id, revision, bronze_path, content_sha256, bronze_bytes, bronze_filename, bronze_ingest_end_time,
        silver_run_id, silver_ingest_start_time, silver_ingest_end_time, silver_errors, batch_id, attempts, code_version,
        created_at, updated_at
    )
    SELECT md5(name)::uuid, %(source)s, name, 1, %(source)s || '/' || name, repeat('0', 64), 4096, 'fleet.csv', at,
        'run-' || n / 500, at, at, CASE WHEN n %% 1000 = 0 THEN '{"error_type": "x", "message": "x"}'::jsonb END,
        'batch-' || n / 500, 1, 'v1', at, at
    FROM generate_series(%(first)s::bigint, %(last)s - 1) AS n,
    LATERAL (
        SELECT 'fleet-' || lpad(n::text, 9, '0') || '.csv' AS name, timestamptz '2026-01-01 00:00Z' + n * interval '1 second' AS at
    ) AS item
"""
TICK_QUERIES = ("open_batches", "lock_outdated", "lock_due", "lock_pending", "unknown_paths", "register_published", "write_rows")


def name_of(number: int) -> str:
    return f"fleet-{number:09}.csv"


def item_line(number: int) -> bytes:
    name = name_of(number)
    artifact = Artifact("events.csv", "text/csv", 4096, "0" * 64)
    return encode_item(
        BronzeItem(SOURCE, name, 1, name, name, f"landing/{SOURCE}/{name}", FETCHED_AT, "0" * 64, (artifact,), run_id="0" * 36)
    )  # fmt: skip


def write_directories(folder: Path, first: int, last: int) -> None:
    for number in range(first, last):
        directory = folder / name_of(number)
        directory.mkdir(parents=True)
        (directory / ITEM_FILE).write_bytes(item_line(number))


def write_lines(folder: Path, first: int, last: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pattern = item_line(987_654_321)
    with (folder / INDEX_FILE).open("ab") as index:
        for number in range(first, last):
            index.write(pattern.replace(b"987654321", b"%09d" % number))


def fill_ledger(db: psycopg.Connection, size: int) -> None:
    db.execute("TRUNCATE ops.file_ingestions")
    for first in range(0, size, 1_000_000):
        db.execute(FILL, {"source": SOURCE, "first": first, "last": min(size, first + 1_000_000)})
        db.commit()
    db.autocommit = True
    db.execute("VACUUM ANALYZE ops.file_ingestions")
    db.execute("CHECKPOINT")
    db.autocommit = False


def tick(db: psycopg.Connection, bronze: Path, cursor: Cursor | None, mode: Literal["scan", "index"]) -> tuple[float, Discovery, int]:
    started = time.perf_counter()
    found = discover(db, LocalReader(bronze), SOURCE, cursor, mode, 5.0)
    batches = Ledger(db).claim(SOURCE, SETTINGS, "v1", clock.now())
    Ledger(db).open_batches(SOURCE)
    db.commit()
    return (time.perf_counter() - started) * 1e3, found, len(batches)


def finish_claimed(db: psycopg.Connection) -> None:
    db.execute(
        "UPDATE ops.file_ingestions SET silver_ingest_end_time = now() WHERE source_type = %s AND status IN ('claimed', 'pending')",
        [SOURCE],
    )
    db.commit()


def measure(db: psycopg.Connection, bronze: Path, mode: Literal["scan", "index"], size: int, new: int, rounds: int) -> None:
    folder = bronze / SOURCE
    write = write_directories if mode == "scan" else write_lines
    write(folder, 0, size)
    fill_ledger(db, size)
    lost_ms, cursor, ticks = 0.0, None, 0
    while True:
        taken, found, _ = tick(db, bronze, cursor, mode)
        lost_ms, cursor, ticks = lost_ms + taken, found.cursor, ticks + 1
        if found.complete:
            break
    assert found.registered == 0
    if mode == "scan":
        time.sleep(2.1)  # until the folder's stamps can be trusted
        cursor = tick(db, bronze, cursor, mode)[1].cursor
    idle, busy = [], []
    for _ in range(rounds):
        for _ in range(5):
            taken, found, _ = tick(db, bronze, cursor, mode)
            idle.append(taken)
            assert found.seen == 0
        write(folder, size, size + new)
        size += new
        taken, found, batches = tick(db, bronze, cursor, mode)
        busy.append(taken)
        assert (found.registered, batches) == (new, 2)
        finish_claimed(db)
        if mode == "scan":
            time.sleep(2.1)
            found = tick(db, bronze, found.cursor, mode)[1]
        cursor = found.cursor
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    known = size - rounds * new
    print(
        f"{mode:6}{known:>12,}{statistics.median(idle):>14.1f}{max(idle):>10.1f}{statistics.median(busy):>14.0f}{max(busy):>10.0f}"
        f"{lost_ms:>18,.0f}{ticks:>8}{memory:>10.0f}",
        flush=True,
    )


def show_plans(db: psycopg.Connection) -> None:
    """Print the plan of each query of a tick; rolled back."""
    rows = Ledger(db).list_rows(ledger_module.LedgerFilter(source_type=SOURCE), limit=500).rows
    paths = [f"{SOURCE}/{name_of(number)}" for number in range(1_000)]
    params: dict[str, object] = {"source_type": SOURCE, "code_version": "v1", "limit": 1_000, "at": clock.now()}
    params |= {"paths": paths, "rows": ledger_module._as_json(rows)}
    for name in TICK_QUERIES:
        columns = ledger_module.SILVER_COLUMNS if name == "write_rows" else ledger_module.COLUMNS
        with db.transaction(force_rollback=True):
            plan = "\n".join(
                str(line)
                for (line,) in db.execute(psycopg.sql.SQL("EXPLAIN (ANALYZE, BUFFERS) ") + ledger_module._query(name, columns), params)
            )
        warning = "   <-- SEQUENTIAL SCAN OF THE LEDGER" if "Seq Scan on file_ingestions" in plan else ""
        print(f"\n-- {name}{warning}\n{plan}")


@contextmanager
def database(folder: Path) -> Iterator[psycopg.Connection]:
    server = EmbeddedPostgres(folder / "postgres")
    try:
        server.start()
        migrate(ROOT, server.url("postgres"))
        with psycopg.connect(server.url("postgres"), options="-c jit=off -c timezone=UTC") as db:
            yield db
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scan", type=int, nargs="*", default=[1_000, 10_000, 100_000], help="sizes of scanned sources")
    parser.add_argument("--index", type=int, nargs="*", default=[1_000_000], help="sizes of indexed sources")
    parser.add_argument("--new", type=int, default=1_000, help="items published between two ticks")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where bronze and Postgres go while it runs (default: the system's temporary folder)")
    parser.add_argument("--plans", action="store_true", help="print the plans of the tick's queries at the last size")
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="medallion-bench-", dir=args.folder))
    work.chmod(0o755)
    try:
        with database(work) as db:
            columns = (f"{args.new:,} new ms", 14), ("max", 10), ("cursor lost, ms", 18), ("ticks", 8), ("peak MB", 10)
            print(f"{'mode':6}{'known items':>12}{'idle tick ms':>14}{'max':>10}" + "".join(f"{name:>{width}}" for name, width in columns))
            for mode, sizes in (("scan", args.scan), ("index", args.index)):
                for size in sizes:
                    measure(db, work / f"{mode}-{size}", mode, size, args.new, args.rounds)  # type: ignore[arg-type]  # of the two literals
                    shutil.rmtree(work / f"{mode}-{size}")
            if args.plans:
                show_plans(db)
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
