"""Labeling: plans on top of much history, the life of no-op tasks, and what compaction gives back.

On an embedded server of its own, filled by plain SQL (not measured). Three parts:

- plan: 1,000 new subjects among as many planned ones as `--history` says, each size in the same run; median of `--rounds`.
- life: claim, attempt, result, consolidate of no-op items with 1, 2 and 4 worker processes, in batches of 1,000 and of 100;
  beside each, procrastinate's fetch and finish of no-op jobs on the same server, where --procrastinate-python names a
  Python that has benchmarks/requirements.txt. Interleaved, medians.
- compaction: size of tasks_status and tasks_history after `--tasks` tasks with 3 attempts each, before and after.

    python benchmarks/tasks.py --procrastinate-python .venv-benchmarks/bin/python
"""

import argparse
import multiprocessing
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from multiprocessing.synchronize import Barrier
from pathlib import Path

import psycopg
from pydantic import BaseModel

from medallion_defs.core import clock
from medallion_defs.core.settings import Settings
from medallion_defs.labeling import runner
from medallion_defs.labeling.contract import BatchStrategy, ProcessingResult, Subjects, TaskContext, TaskSpec, WorkItem
from medallion_defs.labeling.engine import housekeeping
from medallion_defs.labeling.prompts import PromptProfile
from medallion_defs.labeling.registry import Task
from medallion_defs.stack.migrate import migrate
from medallion_defs.stack.postgres import EmbeddedPostgres

ROOT = Path(__file__).resolve().parent.parent

CREATE = """
CREATE TABLE silver.notes (
    note_key bigint PRIMARY KEY, file_hash text NOT NULL, file_id uuid NOT NULL,
    change_seq bigint NOT NULL DEFAULT nextval('silver.change_seq'), updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX notes_change_seq_idx ON silver.notes (change_seq);
SELECT silver.watch_changes('silver.notes');
"""
PUT = """
INSERT INTO silver.notes (note_key, file_hash, file_id)
SELECT number, md5(number::text) || md5((-number)::text), gen_random_uuid() FROM generate_series(%s::bigint, %s::bigint) AS number
"""
PUT_PLANNED = """
INSERT INTO silver.tasks_todo (task_id, task_key, media_type, prompt_id, subject_table, subject_key, file_id, file_hash, bytes, status,
    batch_id, attempts)
SELECT gen_random_uuid(), 'bench.noop', 'text', %s, 'silver.notes', note_key, file_id, file_hash, 1, 'succeeded', 1, 1
FROM silver.notes WHERE note_key BETWEEN %s AND %s
"""
PUT_EVENTS = """
INSERT INTO silver.tasks_status (task_id, task_key, batch_id, attempt, event, worker, duration_ms, error_type, error_message, retry_seconds,
    output, code_version)
SELECT task_id, 'bench.noop', batch_id, attempt, event, 'host:1', CASE WHEN event <> 'attempt' THEN 12.5 END,
    CASE event WHEN 'failed' THEN 'TransientError' END, CASE event WHEN 'failed' THEN 'The service did not answer.' END,
    CASE event WHEN 'failed' THEN 30 END,
    CASE event WHEN 'succeeded' THEN '{"label": "something", "confidence": 0.87}'::jsonb END, '0123456789abcdef'
FROM (SELECT gen_random_uuid() AS task_id, 1 + number / 100 AS first_batch FROM generate_series(0, %(tasks)s - 1) AS number) AS task,
    generate_series(1, 3) AS attempt,
    LATERAL (VALUES ('attempt'), (CASE attempt WHEN 3 THEN 'succeeded' ELSE 'failed' END)) AS outcome (event),
    LATERAL (SELECT first_batch + (attempt - 1) * %(tasks)s / 100 AS batch_id) AS batch
"""
PUT_BATCHES = """
INSERT INTO silver.tasks_batches (batch_id, task_key, prompt_id, items, bytes, state, updated_at) OVERRIDING SYSTEM VALUE
SELECT number, 'bench.noop', 'p', 100, 100, 'done', now() - interval '30 days' FROM generate_series(1, 3 * %(tasks)s / 100 + 1) AS number
"""
TABLES = ("tasks_status", "tasks_history", "tasks_batches")
NOTES = Subjects(
    "notes",
    candidates="""
        SELECT 'silver.notes' AS subject_table, note_key::text AS subject_key, file_id, file_hash, 1 AS bytes, change_seq
        FROM silver.notes WHERE change_seq > %(after)s ORDER BY change_seq LIMIT %(limit)s
    """,
    inputs="SELECT note_key::text AS subject_key, file_hash FROM silver.notes WHERE note_key = ANY (%(subject_keys)s::bigint[])",
)


class Noop(BaseModel):
    ok: bool


def noop(items: Sequence[WorkItem], _context: TaskContext) -> Iterator[ProcessingResult]:
    return (ProcessingResult(item.task_id, {"ok": True}) for item in items)


def noop_task(max_items: int = 1_000) -> Task:
    spec = TaskSpec(
        "bench.noop", "text", "No-op", "Nothing.", "bench", NOTES, Noop, noop, batch_strategy=BatchStrategy(max_items=max_items)
    )
    return Task(spec, (PromptProfile(task_key="bench.noop", profile="default"),), "v1")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=["plan", "life", "compaction"], choices=["plan", "life", "compaction"])
    parser.add_argument("--history", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--new", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=100_000, help="items of one measurement of a task's life")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--batches", type=int, nargs="+", default=[1_000, 100])
    parser.add_argument("--jobs", type=int, default=3_000, help="jobs of one measurement of procrastinate")
    parser.add_argument(
        "--procrastinate-python", help="a Python that has benchmarks/requirements.txt; without it procrastinate is left out"
    )
    parser.add_argument("--tasks", type=int, default=1_000_000, help="tasks of the compaction")
    parser.add_argument("--folder", type=Path, help="where the server's files go; default: a temporary folder")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="medallion-benchmark-", dir=options.folder))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder / "postgres")
    try:
        server.start()
        for part in options.parts:
            {"plan": measure_plans, "life": measure_lives, "compaction": measure_compaction}[part](server, folder, options)
        print(f"peak memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    finally:
        server.stop()
        shutil.rmtree(folder)


def fresh_project(server: EmbeddedPostgres, folder: Path, name: str) -> Settings:
    run(server.url("postgres"), f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")
    migrate(ROOT, server.url(name))
    run(server.url(name), CREATE)
    return Settings(root=ROOT, data_dir=folder / "data", database_url=server.url(name))


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def put(url: str, query: str, *values: object) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(query, values)


# -- plan --------------------------------------------------------------------------------------------------------------


def measure_plans(server: EmbeddedPostgres, folder: Path, options: argparse.Namespace) -> None:
    """Databases with each history side by side; the rounds take them in turn."""
    projects = {size: planned_project(server, folder, size) for size in options.history}
    seconds: dict[int, list[float]] = {size: [] for size in projects}
    for number in range(options.rounds + 1):
        for size, settings in projects.items():
            first = size + 1 + number * options.new
            put(settings.require_database_url(), PUT, first, first + options.new - 1)
            started = time.perf_counter()
            report = runner.plan(settings, noop_task())
            elapsed = time.perf_counter() - started
            assert report.planned == report.batched == options.new, report
            if number:  # the first warms up
                seconds[size].append(elapsed)
    medians = {size: statistics.median(values) for size, values in seconds.items()}
    for size, median in medians.items():
        ratio = median / medians[options.history[0]]
        print(f"plan: {options.new:,} new among {size:,}: {median * 1000:.0f} ms, {ratio:.2f} x the first")
    for size in projects:
        run(server.url("postgres"), f"DROP DATABASE plan_{size}")


def planned_project(server: EmbeddedPostgres, folder: Path, size: int) -> Settings:
    settings = fresh_project(server, folder, f"plan_{size}")
    url, task = settings.require_database_url(), noop_task()
    runner.plan(settings, task)
    for first in range(1, size + 1, 1_000_000):
        last = min(first + 999_999, size)
        put(url, PUT, first, last)
        put(url, PUT_PLANNED, task.profiles[0].prompt_id, first, last)
    run(url, "UPDATE silver.tasks_prompts SET planned_seq = (SELECT max(change_seq) FROM silver.notes)", "VACUUM ANALYZE", "CHECKPOINT")
    return settings


# -- life --------------------------------------------------------------------------------------------------------------


def measure_lives(server: EmbeddedPostgres, folder: Path, options: argparse.Namespace) -> None:
    settings = fresh_project(server, folder, "life")
    run(server.url("postgres"), "DROP DATABASE IF EXISTS jobs", "CREATE DATABASE jobs")
    rates: dict[tuple[str, int], list[float]] = {}
    for number in range(options.rounds):
        for workers in options.workers:
            for max_items in options.batches:
                rate = measure_life(settings, options.items, workers, max_items, show=number == 0)
                rates.setdefault((f"batches of {max_items:,}", workers), []).append(rate)
            if options.procrastinate_python:
                rates.setdefault(("procrastinate", workers), []).append(measure_procrastinate(server, options, workers))
    for (name, workers), values in rates.items():
        median = statistics.median(values)
        other = statistics.median(rates.get(("procrastinate", workers), [0.0]))
        print(f"life: {workers} workers, {name}: {median:,.0f} items/s" + (f", {median / other:.1f} x procrastinate" if other else ""))


def measure_life(settings: Settings, items: int, workers: int, max_items: int, *, show: bool) -> float:
    url = settings.require_database_url()
    run(
        url,
        "TRUNCATE silver.notes, silver.tasks_todo, silver.tasks_batches, silver.tasks_status, silver.tasks_results, silver.tasks_prompts",
    )
    put(url, PUT, 1, items)
    started = time.perf_counter()
    runner.plan(settings, noop_task(max_items))
    planned = time.perf_counter() - started
    run(url, "VACUUM ANALYZE", "CHECKPOINT")
    seconds, stages = race(settings, workers)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM silver.tasks_results").fetchone() == (items,)
    if show:
        print(f"  {workers} workers, batches of {max_items:,}: planned {items / planned:,.0f}/s,", end=" ")
        print(f"process {stages[0]:.1f} s, consolidate {stages[1]:.1f} s", flush=True)
    return items / seconds


def race(settings: Settings, workers: int) -> tuple[float, list[float]]:
    """Start the workers, then the clock; return the seconds until all are done, and those of each stage of the slowest."""
    context = multiprocessing.get_context("spawn")
    barrier, stages = context.Barrier(workers + 1), context.Queue()
    processes = [context.Process(target=work, args=(settings, barrier, stages)) for _ in range(workers)]
    for process in processes:
        process.start()
    barrier.wait()
    started = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - started
    slowest = [max(values) for values in zip(*(stages.get() for _ in processes), strict=True)]
    for process in processes:
        process.join()
    return seconds, slowest


def work(settings: Settings, barrier: Barrier, stages: "multiprocessing.Queue[list[float]]") -> None:
    task = noop_task()
    barrier.wait()
    started = time.perf_counter()
    for _ in runner.work(settings, task):
        pass
    processed = time.perf_counter()
    runner.consolidate(settings, task)
    done = time.perf_counter()
    barrier.wait()
    stages.put([processed - started, done - processed])


def measure_procrastinate(server: EmbeddedPostgres, options: argparse.Namespace, workers: int) -> float:
    script = Path(__file__).with_name("tasks_procrastinate.py")
    command = [options.procrastinate_python, str(script), server.url("jobs"), str(options.jobs), str(workers)]
    seconds = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return float(options.jobs / seconds)


# -- compaction --------------------------------------------------------------------------------------------------------


def measure_compaction(server: EmbeddedPostgres, folder: Path, options: argparse.Namespace) -> None:
    settings = fresh_project(server, folder, "compaction")
    url = settings.require_database_url()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(PUT_BATCHES, {"tasks": options.tasks})
        connection.execute(PUT_EVENTS, {"tasks": options.tasks})
        connection.execute("VACUUM ANALYZE")
        before = sizes(connection)
        started = time.perf_counter()
        report = housekeeping.compact(settings, clock.now() - timedelta(days=7))
        seconds = time.perf_counter() - started
        connection.execute("VACUUM ANALYZE")
        after = sizes(connection)
    print(f"compaction: {report.events:,} events of {options.tasks:,} tasks in {seconds:.0f} s, {report.events / seconds:,.0f} events/s")
    for table in TABLES:
        print(f"  {table}: {before[table]:,.0f} MB before, {after[table]:,.0f} MB after")
    print(f"  together: {sum(after.values()) / sum(before.values()):.2f} of what it was")


def sizes(connection: psycopg.Connection) -> dict[str, float]:
    query = "SELECT pg_total_relation_size(('silver.' || %s)::regclass) / 1048576.0"
    return {table: float(connection.execute(query, (table,)).fetchall()[0][0]) for table in TABLES}


if __name__ == "__main__":
    main()
