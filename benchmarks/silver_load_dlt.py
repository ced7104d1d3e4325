"""The dlt side of silver_load.py: load one JSONL file into Postgres by `merge` on event_id, and print the seconds it took.

Run by silver_load.py with the Python of an environment that has benchmarks/requirements.txt. No validation, no flags, no
rejects: the file must be clean. `delete-insert`, since `upsert` fails on a key that comes twice in one load.
"""

import sys
import time

import dlt
from dlt.sources.filesystem import filesystem, read_jsonl


def main(folder: str, file_name: str, url: str, work_folder: str) -> None:
    pipeline = dlt.pipeline("bench", pipelines_dir=work_folder, destination=dlt.destinations.postgres(url), dataset_name="bench")
    events = (filesystem(folder, file_glob=file_name) | read_jsonl()).with_name("events")
    events.apply_hints(write_disposition="merge", primary_key="event_id", columns={"attributes": {"data_type": "json"}})
    started = time.perf_counter()
    pipeline.run(events).raise_on_failed_jobs()
    print(time.perf_counter() - started)


if __name__ == "__main__":
    main(*sys.argv[1:])
