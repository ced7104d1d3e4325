"""From a file dropped in landing to its row in gold, with the daemon running and nothing tuned.

Starts the whole stack on a fresh data folder, drops one small file at a time, each at a random moment of the sensors' interval,
and waits for its event in `gold.driver_events_enriched`. Prints seconds per file by layer, median and worst.

    python benchmarks/latency.py --files 5
"""

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path

import psycopg

from medallion_defs.core.settings import Settings, find_root
from medallion_defs.stack.running import RunningStack, running_stack

QUERIES = {
    "bronze": "SELECT 1 FROM ops.file_ingestions WHERE external_id = %(file)s",
    "silver": "SELECT 1 FROM silver.driver_events WHERE event_id = %(event)s",
    "gold": "SELECT 1 FROM gold.driver_events_enriched WHERE event_id = %(event)s",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where the data folder is made; default: the machine's temp folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        settings = Settings(root=find_root(), data_dir=Path(folder) / "data")
        with running_stack(settings) as stack, psycopg.connect(stack.databases.medallion_url, autocommit=True) as db:
            measure_one(stack, db, 0)  # the first run of each location imports for the first time
            rounds = [measure_one(stack, db, number) for number in range(1, arguments.files + 1)]
    for layer in QUERIES:
        values = [measured[layer] for measured in rounds]
        print(f"{layer:8} median {statistics.median(values):5.1f} s   worst {max(values):5.1f} s   of {len(values)}")


def measure_one(stack: RunningStack, db: psycopg.Connection, number: int) -> dict[str, float]:
    """Drop file `number`; return seconds from the drop until each layer has it."""
    time.sleep(random.Random(number).uniform(0, 5))  # ticks come every 5 s: arrive anywhere in between
    names = {"file": f"latency-{number}.jsonl", "event": f"latency-{number}"}
    path = stack.settings.landing_path / "driver_events" / names["file"]
    started = time.monotonic()
    path.write_text(f'{{"event_id": "{names["event"]}", "company_id": "C1"}}\n', encoding="utf-8")
    seen: dict[str, float] = {}

    def is_through() -> bool:
        for layer, query in QUERIES.items():
            if layer not in seen and db.execute(query, names).fetchone():
                seen[layer] = time.monotonic() - started
        return "gold" in seen

    stack.wait_for(f"{names['file']} in gold", is_through, 300)
    print(f"file {number}: " + ", ".join(f"{layer} after {seconds:.1f} s" for layer, seconds in seen.items()), flush=True)
    return seen


if __name__ == "__main__":
    main()
