"""Curricular pages: what the scanner, the request files and the answers cost, by number of pages.

On an embedded server of its own, with tiny images, so that the machinery is measured and not the disk. For each of `--sizes`, each
step in a process of its own; printed are its seconds, the processor seconds that it and its children used, and the peak memory of
the larger of its processes. Two parts:

- files: names and stats of all pages (scan); the sensor's fingerprint; the first fetch into bronze, and the next, which finds all
  unchanged; bronze to silver, in microbatches of 500 (load);
- model: silver filled by plain SQL (not measured); plan; then claim, request line, request file, reservation, in batches of 1,000
  (reserve); for one batch with all pages its answer file into bronze (collect), then matched, validated, priced and written as
  results (parse), and the markers of them.

    python benchmarks/pages.py --sizes 10000 100000 --folder /dev/shm
"""

import argparse
import hashlib
import json
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg
from pydantic import ByteSize
from usage import largest_child_mb, own_peak_mb, processor_seconds

from medallion_defs.bronze.assets import BronzeContent, fetch_source
from medallion_defs.bronze.tree.scan import scan_tree, tree_fingerprint
from medallion_defs.core import clock, db
from medallion_defs.core.sections import CurricularSettings, GenaiSettings, ModelPrice, SourceSettings, TaskSettings
from medallion_defs.core.settings import Settings
from medallion_defs.genai.collect import collect_batches
from medallion_defs.genai.requests import item_token
from medallion_defs.labeling import runner
from medallion_defs.labeling.contract import BatchStrategy
from medallion_defs.labeling.models.answers import read_ledger_batch
from medallion_defs.labeling.registry import Task, load_tasks
from medallion_defs.ops.ledger import Ledger
from medallion_defs.silver.file_parser import load_source_parser
from medallion_defs.silver.load_run import SilverContent, load_batch
from medallion_defs.sources.curricular_pages import fetch, source, tables, transform
from medallion_defs.stack.migrate import migrate
from medallion_defs.stack.postgres import EmbeddedPostgres
from medallion_defs.storage.item import ITEM_FILE, Artifact, BronzeItem, content_sha256, encode_item

ROOT = Path(__file__).resolve().parent.parent
SOURCE, FETCH = source.SOURCE, fetch.FETCH
PAGES_PER_YEAR = 250
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)
PUT_PAGES = """
INSERT INTO silver.curricular_pages (page_key, state, school, year, page_num, label, mime_type, bytes, content_sha256, bronze_path,
    artifact, file_id, source_record, bronze_at)
SELECT format('Alabama:Lincoln:1987:%%s', number), 'Alabama', 'Lincoln', 1987, number,
    '{"state": "Alabama", "school": "Lincoln", "year": 1987, "text": "Biology I, Chemistry"}', 'image/png', 70,
    encode(sha256(number::text::bytea), 'hex'), 'one', 'image.png', gen_random_uuid(), 1, now()
FROM generate_series(1, %s) AS number
"""
ANSWER = {
    "subject": "science", "grade": "11", "course_names": ["Biology I", "Chemistry"], "activity_names": ["Science Club"], "people_count": 12,
    "evidence": "The heading reads Biology I, above a picture of a laboratory.", "confidence": 0.93,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--parts", nargs="+", default=["files", "model"], choices=["files", "model"])
    parser.add_argument("--folder", type=Path, help="where the pages and the server's files go; default: a temporary folder")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="medallion-benchmark-", dir=options.folder))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder / "postgres")
    try:
        server.start()
        for size in options.sizes:
            for part in options.parts:
                {"files": measure_files, "model": measure_model}[part](server, folder / f"{part}-{size}", size)
    finally:
        server.stop()
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink() and not path.is_relative_to(folder / "postgres"):
                path.chmod(0o755)
        shutil.rmtree(folder)


def measure_files(server: EmbeddedPostgres, folder: Path, size: int) -> None:
    write_pages(folder / "dataset", size)
    settings = make_settings(server, folder, f"files_{size}", size)
    migrate(ROOT, settings.require_database_url())
    for name, step in (("scan", scan), ("fingerprint", fingerprint), ("first fetch", take), ("fetch, unchanged", take), ("load", load)):
        report(name, size, *in_process(step, settings))


def measure_model(server: EmbeddedPostgres, folder: Path, size: int) -> None:
    settings = make_settings(server, folder, f"model_{size}", size)
    migrate(ROOT, settings.require_database_url())
    put_image(settings.bronze_path / "one")
    put(settings.require_database_url(), size)
    run(server.url("postgres"), f"CREATE DATABASE answers_{size} TEMPLATE model_{size}")
    for name, step in (("plan", plan), ("reserve and write requests", reserve)):
        report(name, size, *in_process(step, settings))
    settings = make_settings(server, folder, f"answers_{size}", size, one_batch=True)
    prepare_answers(settings)
    for name, step in (("collect", collect), ("parse", parse), ("markers", write_markers)):
        report(name, size, *in_process(step, settings))


def put_image(folder: Path) -> None:
    """Make the bronze item that all pages of silver name."""
    artifact = Artifact("image.png", "image/png", len(PNG), hashlib.sha256(PNG).hexdigest())
    item = BronzeItem(SOURCE.name, "one", 1, "one", "one", "benchmark", clock.now(), content_sha256((artifact,)), (artifact,))
    folder.mkdir(parents=True)
    (folder / artifact.name).write_bytes(PNG)
    (folder / ITEM_FILE).write_bytes(encode_item(item))


def put(url: str, size: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(PUT_PAGES, (size,))


def report(name: str, size: int, seconds: float, cpu_seconds: float, peak_mb: float) -> None:
    print(
        f"{size:>9,} pages  {name:28} {seconds:8.2f} s  {size / seconds:>10,.0f}/s  processor {cpu_seconds:7.2f} s  peak {peak_mb:6.0f} MB",
        flush=True,
    )


def in_process(step: Callable[[Settings], float], settings: Settings) -> tuple[float, float, float]:
    """Return a step's seconds, the processor's among them, and the peak memory of the larger of its processes: a load has a worker."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_run_step, args=(step, settings, sender))
    process.start()
    sender.close()
    measured: tuple[float, float, float] = receiver.recv()
    process.join()
    return measured


def _run_step(step: Callable[[Settings], float], settings: Settings, sender: Connection) -> None:
    before = processor_seconds()
    seconds = step(settings)
    sender.send((seconds, processor_seconds() - before, max(own_peak_mb(), largest_child_mb())))


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def write_pages(dataset: Path, size: int) -> None:
    for number in range(size):
        year, page = divmod(number, PAGES_PER_YEAR)
        school, year = divmod(year, 20)
        below = Path("Alabama", f"School {school}", str(1950 + year))
        if page == 0:
            for root in ("label_to_curricular", "images"):
                (dataset / root / below).mkdir(parents=True)
        label = {
            "state": "Alabama",
            "school": f"School {school}",
            "year": 1950 + year,
            "page_num": page + 1,
            "text": "Biology I\nChemistry",
        }
        (dataset / "label_to_curricular" / below / f"{page + 1}.json").write_text(json.dumps(label))
        (dataset / "images" / below / f"{page + 1}.png").write_bytes(PNG)


def make_settings(server: EmbeddedPostgres, folder: Path, database: str, size: int, *, one_batch: bool = False) -> Settings:
    if not one_batch:
        run(server.url("postgres"), f"CREATE DATABASE {database}")
    dataset = folder / "dataset"
    [model] = {profile.model for profile in page_task().profiles}
    price = {
        "model": model,
        "mode": "batch",
        "valid_from": "2026-01-01",
        "input_usd": "0.15",
        "cached_input_usd": "0.03",
        "output_usd": "1.25",
    }
    genai = GenaiSettings(
        prices=[ModelPrice.model_validate(price)],
        max_usd_per_day=Decimal(1_000_000),
        max_batch_requests=size if one_batch else 1_000,
        max_batch_bytes=ByteSize(2**40),
    )
    return Settings(
        root=ROOT, data_dir=folder / "data", database_url=server.url(database), genai=genai,
        curricular=CurricularSettings(
            labels_dir=dataset / "label_to_curricular", images_dir=dataset / "images", output_dir=dataset / "output_results"
        ),
        sources={SOURCE.name: SourceSettings(max_in_flight=1_000)},
        tasks={"page.curricular": TaskSettings(lease_seconds=600)},
    )  # fmt: skip


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


# -- bronze and silver ---------------------------------------------------------------------------------------------------


def scan(settings: Settings) -> float:
    scope = FETCH.read_scope(settings)
    assert scope is not None
    return timed(lambda: sum(1 for _ in scan_tree(scope)))


def fingerprint(settings: Settings) -> float:
    scope = FETCH.read_scope(settings)
    assert scope is not None
    return timed(lambda: tree_fingerprint(scope, clock.now(), 1))


def take(settings: Settings) -> float:
    return fetch_source(settings, BronzeContent(SOURCE, FETCH), "benchmark").seconds


def load(settings: Settings) -> float:
    content = SilverContent(SOURCE, tables.TABLE, load_source_parser(SOURCE, transform))
    options = settings.source(SOURCE.name)

    def work() -> None:
        while True:
            with db.connect(settings, "medallion_silver") as connection:
                batches = Ledger(connection).claim(SOURCE.name, options, content.code, clock.now())
            if not batches:
                return
            for batch in batches:
                assert not load_batch(settings, content, batch.batch_id, "benchmark").failed

    return timed(work)


# -- the model -----------------------------------------------------------------------------------------------------------


def page_task() -> Task:
    return load_tasks()["page.curricular"]


def plan(settings: Settings) -> float:
    return timed(lambda: runner.plan(settings, page_task()))


def reserve(settings: Settings) -> float:
    return timed(lambda: list(runner.work(settings, page_task(), "benchmark")))


def prepare_answers(settings: Settings) -> None:
    """Ask about all pages in one batch, and put the answers where the download would put them. Not measured."""
    task = page_task()
    strategy = BatchStrategy(max_items=settings.genai.max_batch_requests, max_bytes=2**40)
    task = replace(task, spec=replace(task.spec, batch_strategy=strategy))
    runner.plan(settings, task)
    run(
        settings.require_database_url(),
        "UPDATE silver.tasks_todo SET batch_id = (SELECT min(batch_id) FROM silver.tasks_batches)",
        "DELETE FROM silver.tasks_batches WHERE batch_id > (SELECT min(batch_id) FROM silver.tasks_batches)",
    )
    asked = runner.process(settings, task)
    assert asked.is_claimed, asked
    with psycopg.connect(settings.require_database_url(), autocommit=True) as connection:
        [(batch_id,)] = connection.execute("SELECT batch_id FROM ops.active_batches").fetchall()
        folder = settings.data_path / "outbox" / batch_id
        with (folder / "responses.jsonl").open("w") as file:
            file.writelines(answer_lines(batch_id, folder / "requests.jsonl"))
        connection.execute(
            "UPDATE ops.active_batches SET status = 'ended', provider_name = 'batches/1', provider_state = 'SUCCEEDED',"
            " output_file = 'files/1', submitted_at = now(), ended_at = now()"
        )


def answer_lines(batch_id: str, requests: Path) -> Iterator[str]:
    usage = {"promptTokenCount": 1_420, "candidatesTokenCount": 96, "thoughtsTokenCount": 0, "totalTokenCount": 1_516}
    with requests.open() as lines:
        for line in lines:
            key = json.loads(line)["key"]
            text = json.dumps({"item_token": item_token(batch_id, key), **ANSWER})
            candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP", "index": 0}
            yield json.dumps({"key": key, "response": {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "m"}}) + "\n"


def collect(settings: Settings) -> float:
    client: Any = None  # the download has happened

    def work() -> None:
        with db.connect(settings, "medallion_bronze", autocommit=True) as connection:
            assert len(list(collect_batches(settings, connection, client, "benchmark"))) == 1

    return timed(work)


def parse(settings: Settings) -> float:
    with db.connect(settings, "medallion_gold") as connection:
        [batch] = Ledger(connection).claim("gemini_batch", settings.source("gemini_batch"), "v1", clock.now())
    task = page_task()
    unmarked = replace(task, spec=replace(task.spec, marker=None))

    def work() -> None:
        [done] = read_ledger_batch(settings, {task.task_key: unmarked}, "gemini_batch", batch.batch_id, "benchmark")
        assert done.success == done.total

    return timed(work)


def write_markers(settings: Settings) -> float:
    return timed(lambda: runner.consolidate(settings, page_task()))


if __name__ == "__main__":
    main()
