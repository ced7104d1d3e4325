"""How fast are files read? From file to rows, without a database: processor microseconds a record, by format and kind of record.

The best of many short runs: on a shared machine a run is longer than it needs to be, and never shorter.

    python benchmarks/silver_read.py --seconds 3
"""

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from silver_load import attributes, event

from medallion_defs.silver.contract import ItemFacts
from medallion_defs.silver.extract import load_parser, open_extraction
from medallion_defs.sources.driver_events import transform

PARSER = load_parser(transform)
NESTED = ',"attributes":{"heading":249,"gps":{"hdop":0.03,"ids":[1,2,3]},"tags":["a","b"],"note":null}'
FETCHED_AT = datetime(2026, 8, 1, tzinfo=UTC)


def write_files(folder: Path, rows: int) -> Iterator[tuple[str, Path]]:
    """Write one file of each kind; yield what is in it, and its path."""
    rng = random.Random(1)
    plain = [event(str(UUID(int=rng.getrandbits(128))), rng) for _ in range(rows)]
    header = "event_id,driver_id,company_id,event_type,event_at,latitude,longitude,speed_kmh"
    kinds = {
        "plain.jsonl": "\n".join(plain),
        "attributes.jsonl": "\n".join(f"{line[:-1]}{attributes(rng)}}}" for line in plain),
        "nested.jsonl": "\n".join(f"{line[:-1]}{NESTED}}}" for line in plain),
        "unknown.jsonl": "\n".join(f'{line[:-1]},"firmware":7}}' for line in plain),
        "array.json": f"[{','.join(plain)}]",
        "plain.csv": "\n".join([header, *(",".join(map(str, json.loads(line).values())) for line in plain)]),
    }
    for name, content in kinds.items():
        (folder / name).write_text(content, encoding="utf-8")
        yield name, folder / name


def best_seconds(path: Path, seconds: float) -> float:
    """Return the processor seconds of the shortest of all readings that fit into `seconds`."""
    facts = ItemFacts(UUID(int=1), path.name, FETCHED_AT)
    best, end = float("inf"), time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.thread_time()
        for _ in open_extraction(path, PARSER, facts).records:
            pass
        best = min(best, time.thread_time() - started)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_500)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each kind")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medallion-benchmark-") as folder:
        for name, path in write_files(Path(folder), options.rows):
            microseconds = best_seconds(path, options.seconds) / options.rows * 1e6
            print(f"{name:18} {path.stat().st_size / options.rows:4.0f} B a record  {microseconds:6.2f} µs", flush=True)


if __name__ == "__main__":
    main()
