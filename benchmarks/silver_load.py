"""How fast is silver loaded, and in how much memory? Three ways, interleaved, into one embedded Postgres on disk with fsync on:

- medallion: one bronze item of N JSONL events (about 200 B; 1 % repeated keys, 0.1 % malformed) through `load_batch`, as a run
  does it: read, decode, validate, transform, flag, deduplicate, keep rejects, write the ledger, commit. A process of its own,
  which loads in a worker; both peaks of memory are taken. The start of the process is not timed, that of the worker is.
- csv: COPY of a ready CSV of the rows that medallion made of it, into the same table with its key, indexes and triggers, commit.
- dlt: filesystem → merge, of the same events without the malformed ones; only where --dlt-python names a Python that has
  benchmarks/requirements.txt. It is slow: --dlt-rows takes fewer, and rates are compared.

Of medallion the processor seconds are printed, too: its two processes', and the server's. On a shared machine they say more than
the clock. --attributes gives each event an object of what has no field of its own, as real ones have.

    python benchmarks/silver_load.py --dlt-python .venv-benchmarks/bin/python --dlt-rows 200000
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg import sql
from usage import largest_child_mb, own_peak_mb, processor_seconds, server_seconds

from medallion_defs.core.sections import SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.ledger import Ledger
from medallion_defs.silver.extract import load_parser
from medallion_defs.silver.load_run import SilverContent, load_batch
from medallion_defs.sources.driver_events import source, tables, transform
from medallion_defs.stack.migrate import migrate
from medallion_defs.stack.postgres import EmbeddedPostgres
from medallion_defs.storage.item import ITEM_FILE, Artifact, BronzeItem, content_sha256, encode_item

ROOT = Path(__file__).resolve().parent.parent
CONTENT = SilverContent(source.SOURCE, tables.TABLE, load_parser(transform))
FIRST_EVENT = datetime(2026, 1, 1, tzinfo=UTC)
CSV_COLUMNS = [column.name for column in tables.TABLE.columns if column.name not in ("change_seq", "ingested_at", "updated_at")]


def write_events(path: Path, rows: int, *, with_malformed: bool = True, with_attributes: bool = False) -> None:
    """Write `rows` events with random keys: every 100th repeats an earlier key, every 1000th is cut short."""
    rng = random.Random(1)
    ids: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            ids.append(ids[rng.randrange(len(ids))] if number % 100 == 99 else str(UUID(int=rng.getrandbits(128))))
            line = event(ids[-1], rng, attributes(rng) if with_attributes else "")
            file.write((line[:100] if with_malformed and number % 1000 == 500 else line) + "\n")


def attributes(rng: random.Random) -> str:
    """Return the end of an event: an object of four values."""
    gps = f'{{"hdop":{rng.uniform(0.5, 3):.2f},"satellites":{rng.randrange(4, 13)}}}'
    values = f'"heading":{rng.randrange(360)},"odometer_km":{rng.uniform(0, 300_000):.1f},"road":"A{rng.randrange(99)}","gps":{gps}'
    return f',"attributes":{{{values}}}'


def event(event_id: str, rng: random.Random, more: str = "") -> str:
    at = FIRST_EVENT + timedelta(seconds=rng.randrange(10_000_000), milliseconds=rng.randrange(1000))
    return (
        f'{{"event_id":"{event_id}","driver_id":"D{rng.randrange(5000):05d}","company_id":"B{rng.randrange(900):05d}",'
        f'"event_type":"{rng.choice(("position", "overspeed", "idle"))}","event_at":"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",'
        f'"latitude":{rng.uniform(40, 41):.5f},"longitude":{rng.uniform(-74, -73):.5f},"speed_kmh":{rng.uniform(-1, 130):.1f}{more}}}'
    )


def put_into_bronze(settings: Settings, path: Path) -> BronzeItem:
    """Make the file an item of bronze, as the landing fetcher would."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    artifact = Artifact("events.jsonl", "application/x-ndjson", path.stat().st_size, sha256)
    at = datetime(2026, 8, 1, tzinfo=UTC)
    item = BronzeItem(
        "driver_events", "events.jsonl", 1, "events.jsonl", "events.jsonl", "benchmark", at, content_sha256((artifact,)), (artifact,)
    )
    folder = settings.bronze_path / item.path
    folder.mkdir(parents=True)
    path.rename(folder / artifact.name)
    (folder / ITEM_FILE).write_bytes(encode_item(item))
    return item


def claim(settings: Settings, item: BronzeItem) -> str:
    """Register the item in an empty ledger and claim it; return the batch id."""
    at = datetime.now(UTC)
    with psycopg.connect(settings.require_database_url()) as connection:
        connection.execute("TRUNCATE silver.driver_events, silver.rejected_rows, ops.file_ingestions")
        Ledger(connection).register_published([DatasetIngestion.published(item, at)])
        (batch,) = Ledger(connection).claim("driver_events", SourceSettings(max_bytes=2**40), CONTENT.code, at)
    return batch.batch_id


def settle(settings: Settings) -> None:
    """Write out what earlier runs left dirty, so that nobody pays for another's pages."""
    with psycopg.connect(settings.require_database_url(), autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    os.sync()


@dataclass(frozen=True)
class Measured:
    """One load: seconds by the clock and of the processor (the two processes', the server's), and peak MB of the worker and its parent."""

    seconds: float
    processor: float
    worker_mb: float
    parent_mb: float
    server: float = 0.0


def measure_medallion(settings: Settings, server: EmbeddedPostgres, item: BronzeItem) -> Measured:
    """Load the item in a process of its own."""
    arguments = [str(settings.data_dir), settings.require_database_url(), claim(settings, item)]
    settle(settings)
    before = server_seconds(server.pid() or 0)
    done = subprocess.run([sys.executable, __file__, "--load", *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return Measured(*json.loads(done.stdout), server=server_seconds(server.pid() or 0) - before)


def load_in_this_process(data_dir: str, database_url: str, batch_id: str) -> None:
    settings = Settings(root=ROOT, data_dir=Path(data_dir), database_url=database_url)
    started, processor = time.perf_counter(), processor_seconds()
    report = load_batch(settings, CONTENT, batch_id, "benchmark")
    seconds, processor = time.perf_counter() - started, processor_seconds() - processor
    if len(report.loaded) != 1:
        raise SystemExit(f"The load failed: {[item.silver_errors for item in report.items]}")
    print(json.dumps([seconds, processor, largest_child_mb(), own_peak_mb()]))


def write_csv(settings: Settings, path: Path) -> int:
    """Write the rows in silver, in the order of the file; return their number."""
    query = sql.SQL("COPY (SELECT {} FROM silver.driver_events ORDER BY source_record) TO STDOUT (FORMAT csv)").format(_columns())
    with psycopg.connect(settings.require_database_url()) as connection, path.open("wb") as file:
        with connection.cursor().copy(query) as copy:
            file.writelines(copy)
        ((rows,),) = connection.execute("SELECT count(*) FROM silver.driver_events")
    return int(rows)


def measure_csv(settings: Settings, path: Path) -> float:
    query = sql.SQL("COPY silver.driver_events ({}) FROM STDIN (FORMAT csv)").format(_columns())
    with psycopg.connect(settings.require_database_url()) as connection:
        connection.execute("TRUNCATE silver.driver_events")
        connection.commit()
        settle(settings)
        started = time.perf_counter()
        with path.open("rb") as file, connection.cursor().copy(query) as copy:
            while block := file.read(256 * 1024):
                copy.write(block)
        connection.commit()
        return time.perf_counter() - started


def measure_dlt(server: EmbeddedPostgres, python: str, path: Path) -> float:
    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS dlt")
        connection.execute("CREATE DATABASE dlt")
    work = tempfile.mkdtemp(dir=path.parent)
    # dlt wants a host in the URL itself; the one in the query, the socket's folder, is the one that libpq takes.
    url = server.url("dlt").replace("@/", "@localhost/")
    script = Path(__file__).with_name("silver_load_dlt.py")
    environment = {**os.environ, "RUNTIME__DLTHUB_TELEMETRY": "false", "DLT_DATA_DIR": work, "HOME": work}
    command = [python, str(script), path.parent.as_uri(), path.name, url, work]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=work)
    return float(done.stdout.split()[-1])


def _columns() -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, CSV_COLUMNS))


def run(options: argparse.Namespace, folder: Path) -> None:
    server = EmbeddedPostgres(folder / "postgres")
    try:
        server.start()
        migrate(ROOT, server.url())
        settings = Settings(root=ROOT, data_dir=folder / "data", database_url=server.url())
        compare(options, folder, server, settings)
    finally:
        server.stop()


def compare(options: argparse.Namespace, folder: Path, server: EmbeddedPostgres, settings: Settings) -> None:
    write_events(folder / "events.jsonl", options.rows, with_attributes=options.attributes)
    write_events(folder / "dlt.jsonl", options.dlt_rows, with_malformed=False, with_attributes=options.attributes)
    item = put_into_bronze(settings, folder / "events.jsonl")
    print(f"{options.rows:,} events, {item.bytes / options.rows:.0f} B each; rates in input records per second")
    rates: dict[str, list[float]] = {"medallion": [], "csv": [], "dlt": []}
    loads: list[Measured] = []
    for number in range(1, options.runs + 1):
        loads.append(measure_medallion(settings, server, item))
        rates["medallion"].append(options.rows / loads[-1].seconds)
        csv_rows = write_csv(settings, folder / "ready.csv")
        rates["csv"].append(csv_rows / measure_csv(settings, folder / "ready.csv"))
        if options.dlt_python and number <= options.dlt_runs:
            rates["dlt"].append(options.dlt_rows / measure_dlt(server, options.dlt_python, folder / "dlt.jsonl"))
        new = {name: values[-1] for name, values in rates.items() if len(values) == number}
        used = f"; medallion's processor seconds {loads[-1].processor:.2f}, the server's meanwhile {loads[-1].server:.2f}"
        print(f"run {number}: " + ", ".join(f"{name} {rate:,.0f}/s" for name, rate in new.items()) + used, flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items() if values}
    print("median: " + ", ".join(f"{name} {rate:,.0f}/s" for name, rate in medians.items()))
    processor, in_server = (statistics.median(values) for values in zip(*((load.processor, load.server) for load in loads), strict=True))
    print(f"processor seconds: medallion {processor:.2f}, the server meanwhile {in_server:.2f}")
    print(
        f"peak memory of the worker: {max(load.worker_mb for load in loads):.0f} MB; of the process that watches it: "
        f"{max(load.parent_mb for load in loads):.0f} MB. Most of the smaller figure is shared, and counted in both."
    )
    # Of pairs measured side by side: a noisy neighbour then slows both sides of a ratio.
    for name in [name for name in medians if name != "medallion"]:
        ratios = [ours / theirs for ours, theirs in zip(rates["medallion"], rates[name], strict=False)]
        print(f"medallion / {name}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    if sys.argv[1:2] == ["--load"]:
        load_in_this_process(*sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--attributes", action="store_true", help="give each event an object of four more values")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dlt-python", help="a Python that has benchmarks/requirements.txt; without it dlt is left out")
    parser.add_argument("--dlt-rows", type=int, default=100_000)
    parser.add_argument("--dlt-runs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=ROOT, help="where the temporary folder goes: on the disk to be measured")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix=".bench-silver-", dir=options.folder))
    folder.chmod(0o755)
    try:
        run(options, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
