"""Curricular pages the whole way: from two trees of files to gold and to success markers, by way of the emulator."""

import json
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any

import dagster as dg
import psycopg
import pytest
from psycopg.rows import dict_row

from medallion_defs.cli.data import gold_specs, silver_specs
from medallion_defs.core import clock
from medallion_defs.core.errors import ConfigurationError, TransientError
from medallion_defs.core.sections import CurricularSettings, LandingSettings, SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.demo.pages import PageTree, write_page, write_page_tree
from medallion_defs.genai.emulator_faults import Faults, ItemFault
from medallion_defs.labeling import runner
from medallion_defs.labeling.assets.markers import look_after_markers
from medallion_defs.labeling.labels import markers
from medallion_defs.labeling.registry import Task, load_tasks
from medallion_defs.locations import bronze, silver
from medallion_defs.ops.lineage import trace_bronze, trace_gold
from medallion_defs.ops.scope import Scope
from medallion_defs.storage.local.reader import LocalReader
from tests.integration.dagster_assets import materialize
from tests.integration.genai.conftest import MODEL, Transport, parse, run_round
from tests.integration.labeling.notes import make_due, states

TASK = load_tasks()["page.curricular"]
KEY = "Alabama:Lincoln:1987:4"


def page_task(template: str | None = None, model: str = MODEL) -> Task:
    """The task as it is, with a model that has a price, and with another prompt if one is given."""
    [profile, *_] = TASK.profiles
    changed = profile.model_copy(update={"model": model} | ({"template": template} if template else {}))
    return Task(TASK.spec, (changed,), TASK.code_version)


class Pages:
    """The pipeline of pages as a test drives it."""

    def __init__(self, transport: Transport, instance: dg.DagsterInstance, tree: PageTree, db: psycopg.Connection) -> None:
        self.transport, self.instance, self.tree, self.db = transport, instance, tree, db
        self.task = page_task()
        settings = transport.settings
        transport.settings = settings.model_copy(
            update={
                "curricular": CurricularSettings(labels_dir=tree.labels_dir, images_dir=tree.images_dir, output_dir=tree.output_dir),
                "sources": {"curricular_pages": SourceSettings(landing=LandingSettings(settle_seconds=0))},
            }
        )

    @property
    def settings(self) -> Settings:
        return self.transport.settings

    def load(self) -> None:
        assert materialize(bronze.defs, ["bronze", "curricular_pages"], self.settings, self.instance).success
        assert materialize(silver.defs, ["silver", "curricular_pages"], self.settings, self.instance).success

    def ask(self) -> set[str]:
        """Run one whole round; return the record keys that the model was asked about in it."""
        before = self.asked()
        run_round(self.transport, self.task)
        return {key for key, times in self.asked().items() if times > before.get(key, 0)}

    def ask_without_reading(self) -> None:
        """Run a round up to the answers in bronze."""
        for batch_id in runner.plan(self.settings, self.task).batch_ids:
            runner.process(self.settings, self.task, batch_id)
        self.transport.send()
        while self.transport.state.list_batches("active"):
            self.transport.poll()
        self.transport.collect()

    def asked(self) -> dict[str, int]:
        return {
            row["record_key"]: row["times"]
            for row in self.rows("SELECT record_key, count(*) AS times FROM ops.batch_record_keys GROUP BY 1")
        }

    def rows(self, query: str) -> list[dict[str, Any]]:
        with self.db.cursor(row_factory=dict_row) as cursor:
            found = cursor.execute(query).fetchall()
        self.db.commit()
        return list(found)

    def gold(self) -> dict[str, dict[str, Any]]:
        return {row["page_key"]: row for row in self.rows("SELECT * FROM gold.curricular_pages")}

    def marker(self, key: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.tree.marker_path(key).read_bytes())
        return content

    def marked(self) -> set[str]:
        return {
            ":".join((*path.relative_to(self.tree.output_dir).parts[:3], path.stem))
            for path in self.tree.output_dir.rglob("*")
            if path.is_file()
        }

    def fail(self, **kinds: list[str]) -> None:
        self.transport.provider.faults = Faults(
            items=[ItemFault.model_validate({"kind": kind, "keys": keys}) for kind, keys in kinds.items()]
        )


@pytest.fixture
def tree(tmp_path: Path) -> PageTree:
    return write_page_tree(tmp_path / "dataset", states=("Alabama", "Ohio"), schools=("Lincoln",), years=(1957, 1987), pages_per_year=4)


@pytest.fixture
def pages(transport: Transport, instance: dg.DagsterInstance, tree: PageTree, db: psycopg.Connection) -> Pages:
    pages = Pages(transport, instance, tree, db)
    pages.load()
    return pages


def test_each_page_comes_to_gold_and_to_its_marker_with_the_same_answer(pages: Pages) -> None:
    assert pages.ask() == set(pages.tree.pages)
    gold = pages.gold()
    assert KEY in gold
    assert set(gold) == set(pages.tree.pages) == pages.marked()
    for key, row in gold.items():
        marker = pages.marker(key)
        assert marker["record_key"] == key
        assert ":".join(map(str, (row["state"], row["school"], row["year"], row["page_num"]))) == key
        assert (marker["content_sha256"], marker["prompt_id"]) == (row["content_sha256"], row["prompt_id"])
        assert (marker["model"], marker["source"], marker["task_id"]) == (MODEL, "model", str(row["task_id"]))
        answer = ("subject", "grade", "course_names", "activity_names", "people_count", "evidence", "confidence")
        assert {name: row[name] for name in answer} == marker["output"]
    batches = {row["batch_id"] for row in pages.rows("SELECT batch_id FROM ops.active_batches")}
    assert {pages.marker(key)["batch_id"] for key in gold} == batches


def test_what_cannot_be_taken_is_in_the_ledger_with_its_reason(pages: Pages) -> None:
    refused = {row["external_id"]: row["bronze_error"] for row in pages.rows("SELECT * FROM ops.file_ingestions WHERE status = 'refused'")}
    expected = {
        f"{state}Lincoln{rest}" for state, rest in (("Alabama:", ":1957:901"), ("Alabama:", ":1957:902"), ("Alabama:", ":1957:903"))
    } | {"Alabama/Lincoln/1957/cover page.json"}
    assert set(refused) == set(pages.tree.refused) == expected
    assert all(pages.tree.refused[name] in reason for name, reason in refused.items())


def test_the_model_gets_the_label_and_the_image(pages: Pages) -> None:
    for batch_id in runner.plan(pages.settings, pages.task).batch_ids:
        runner.process(pages.settings, pages.task, batch_id)
    [outbox] = (pages.settings.data_path / "outbox").glob("*/requests.jsonl")
    lines = {line["key"]: line["request"]["contents"][0]["parts"] for line in map(json.loads, outbox.read_text().splitlines())}
    assert set(lines) == set(pages.tree.pages)
    image, text = lines[KEY]
    assert image["inlineData"]["mimeType"] == "image/png"
    assert "page 4 of the 1987 volume of Lincoln, Alabama" in text["text"]
    for course in pages.tree.pages[KEY].courses:
        assert course in text["text"]


def test_invariant_16_an_image_whose_bytes_changed_is_not_sent(pages: Pages) -> None:
    [row] = pages.rows(f"SELECT bronze_path, artifact FROM silver.curricular_pages WHERE page_key = '{KEY}'")
    image = pages.settings.bronze_path / row["bronze_path"] / row["artifact"]
    image.chmod(0o644)
    image.write_bytes(image.read_bytes() + b"x")
    for batch_id in runner.plan(pages.settings, pages.task).batch_ids:
        runner.process(pages.settings, pages.task, batch_id)
    [outbox] = (pages.settings.data_path / "outbox").glob("*/requests.jsonl")
    assert {json.loads(line)["key"] for line in outbox.read_text().splitlines()} == set(pages.tree.pages) - {KEY}
    found = pages.rows(
        "SELECT subject_key, event.error_type, retry_seconds FROM silver.tasks_status AS event JOIN silver.tasks_todo USING (task_id) "
        "WHERE event = 'failed'"
    )
    assert found == [{"subject_key": KEY, "error_type": "ChangedBytesError", "retry_seconds": None}]


def test_a_page_whose_marker_is_there_is_never_sent_again(pages: Pages) -> None:
    pages.ask()
    assert pages.ask() == set()
    pages.db.execute("UPDATE silver.tasks_todo SET status = 'pending', batch_id = NULL")
    pages.db.commit()
    assert pages.ask() == set()
    assert set(pages.gold()) == set(pages.tree.pages)


def test_a_marker_that_is_removed_sends_its_page_again_and_no_other(pages: Pages) -> None:
    pages.ask()
    before = pages.marker(KEY)
    pages.tree.marker_path(KEY).unlink()
    assert pages.ask() == {KEY}
    after = pages.marker(KEY)
    assert after["batch_id"] != before["batch_id"]
    assert {name: after[name] for name in ("task_id", "content_sha256", "prompt_id")} == {
        name: before[name] for name in ("task_id", "content_sha256", "prompt_id")
    }
    assert after["output"]["evidence"] == pages.gold()[KEY]["evidence"]
    assert pages.ask() == set()


def test_a_backfill_leaves_marked_pages_as_they_are_and_says_so(pages: Pages) -> None:
    pages.load()
    pages.ask()
    settings, before = pages.settings, pages.rows("SELECT * FROM silver.tasks_todo ORDER BY task_id")
    dry = runner.count_backfill(settings, pages.task, Scope(), clock.now())
    done = runner.backfill(settings, pages.task, Scope(), clock.now())
    assert (done.tasks, done.marked) == (dry.tasks, dry.marked) == (0, len(before))
    said = runner.explain_marked(settings, pages.task, done.marked)
    assert f"{len(before)} more in the scope have a success marker in {pages.tree.output_dir}, which keeps them from being asked" in said
    assert pages.rows("SELECT * FROM silver.tasks_todo ORDER BY task_id") == before
    assert pages.ask() == set()


def test_while_a_page_is_asked_again_it_has_no_marker_and_a_failure_writes_none(pages: Pages) -> None:
    pages.ask()
    pages.tree.marker_path(KEY).unlink()
    pages.fail(bad_json=[KEY])
    assert pages.ask() == {KEY}
    assert KEY not in pages.marked()
    pages.fail()
    make_due(pages.db)
    assert pages.ask() == {KEY}
    assert KEY in pages.marked()


def test_a_changed_image_sends_its_page_again_and_replaces_the_marker(pages: Pages) -> None:
    pages.ask()
    before = pages.marker(KEY)
    write_page(pages.tree, KEY, Random(99))
    pages.load()
    assert pages.ask() == {KEY}
    after = pages.marker(KEY)
    assert after["content_sha256"] != before["content_sha256"]
    assert after["content_sha256"] == pages.gold()[KEY]["content_sha256"]
    assert pages.ask() == set()


def test_a_page_that_goes_back_to_its_old_bytes_is_marked_with_the_old_answer_and_nothing_is_paid(pages: Pages) -> None:
    pages.ask()
    first = pages.marker(KEY)
    image, label = pages.tree.image_path(KEY).read_bytes(), pages.tree.label_path(KEY).read_bytes()
    write_page(pages.tree, KEY, Random(99))
    pages.load()
    pages.ask()
    pages.tree.image_path(KEY).write_bytes(image)
    pages.tree.label_path(KEY).write_bytes(label)
    pages.load()
    assert pages.ask() == set()
    assert pages.marker(KEY) == first


def test_a_changed_prompt_sends_every_page_again(pages: Pages) -> None:
    pages.ask()
    old = pages.marker(KEY)["prompt_id"]
    pages.task = page_task("What does page {page_num} show? {label}")
    promote(pages)
    assert pages.ask() == set(pages.tree.pages)
    assert {pages.marker(key)["prompt_id"] for key in pages.tree.pages} == {pages.task.profiles[0].prompt_id} != {old}
    assert pages.ask() == set()


def promote(pages: Pages) -> None:
    """Make the task's profile the primary one."""
    profile = pages.task.profiles[0]
    pages.db.execute("UPDATE silver.tasks_prompts SET state = 'retired' WHERE task_key = 'page.curricular'")
    pages.db.execute(
        "INSERT INTO silver.tasks_prompts (prompt_id, task_key, profile, content, state, promoted_at)"
        " VALUES (%s, 'page.curricular', 'another', %s, 'primary', now())",
        (profile.prompt_id, profile.model_dump_json()),
    )
    pages.db.commit()


@pytest.mark.parametrize("content", ['{"done": true}', "done", ""])
def test_somebody_elses_marker_keeps_its_page_from_being_sent_until_it_is_removed(pages: Pages, content: str) -> None:
    path = pages.tree.marker_path(KEY)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert pages.ask() == set(pages.tree.pages) - {KEY}
    assert path.read_text() == content
    assert states(pages.db, "page.curricular")[KEY] == ("withdrawn", 0, None)
    assert pages.ask() == set()
    path.unlink()
    assert pages.ask() == {KEY}
    assert pages.marker(KEY)["record_key"] == KEY


def test_a_marker_of_other_bytes_does_not_keep_its_page_from_being_sent(pages: Pages) -> None:
    path = pages.tree.marker_path(KEY)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"content_sha256": "of an older scan", "prompt_id": pages.task.profiles[0].prompt_id}))
    assert KEY in pages.ask()
    assert pages.marker(KEY)["content_sha256"] == pages.gold()[KEY]["content_sha256"]


def test_a_folder_of_markers_that_is_gone_as_a_whole_is_an_accident_and_asks_nothing(pages: Pages) -> None:
    pages.ask()
    pages.tree.output_dir.rename(pages.tree.output_dir.with_name("elsewhere"))
    with pytest.raises(ConfigurationError, match="Mount or restore it"):
        runner.plan(pages.settings, pages.task)
    pages.tree.output_dir.with_name("elsewhere").rename(pages.tree.output_dir)
    assert pages.ask() == set()


def test_a_verdict_comes_to_gold_and_to_the_marker(pages: Pages) -> None:
    pages.ask()
    row = pages.gold()[KEY]
    corrected = pages.marker(KEY)["output"] | {"people_count": 3}
    pages.db.execute(
        "INSERT INTO silver.tasks_verdicts (task_key, media_type, file_hash, task_id, output, reason, reviewer)"
        " VALUES ('page.curricular', 'page', %s, %s, %s, 'counted', 'a person')",
        (row["content_sha256"], row["task_id"], json.dumps(corrected)),
    )
    pages.db.commit()
    assert pages.ask() == set()
    assert (pages.gold()[KEY]["people_count"], pages.gold()[KEY]["source"]) == (3, "verdict")
    assert (pages.marker(KEY)["output"], pages.marker(KEY)["source"]) == (corrected, "verdict")


def test_every_fault_of_the_provider_at_once_leaves_no_wrong_marker(pages: Pages) -> None:
    keys = sorted(pages.tree.pages)
    kinds = ["missing", "duplicate", "foreign", "truncated", "bad_json", "safety", "max_tokens", "empty", "error"]
    bad = dict(zip(kinds, keys, strict=False))
    pages.fail(**{kind: [key] for kind, key in bad.items()}, swapped=keys[-2:])
    pages.ask()
    good = set(keys) - set(bad.values()) - set(keys[-2:])
    assert pages.marked() == set(pages.gold()) == good
    pages.fail()
    make_due(pages.db)
    pages.ask()
    assert pages.marked() == set(pages.gold()) >= good | set(keys[-2:])


class Killed(BaseException):
    """Stands for a process that ends there and then."""


def die(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("step", ["write_missing", "_write", "_insert_notes"])
def test_an_answer_whose_marker_was_not_written_or_noted_is_marked_at_the_next_run(
    pages: Pages, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    pages.ask_without_reading()
    with monkeypatch.context() as patch:
        patch.setattr(markers.Markers, step, die)
        with pytest.raises(Killed):
            parse(pages.transport, pages.task)
    assert set(pages.gold()) == set(pages.tree.pages)
    assert pages.ask() == set()
    assert pages.marked() == set(pages.tree.pages)
    notes = pages.rows("SELECT subject_key FROM silver.tasks_markers")
    assert {row["subject_key"] for row in notes} == set(pages.tree.pages)


def test_a_process_killed_in_the_middle_of_a_marker_leaves_the_old_one_or_none(tmp_path: Path) -> None:
    path = tmp_path / "state" / "4.json"
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from medallion_defs.labeling.labels import markers\n"
        "os.fsync = lambda fd: os.kill(os.getpid(), signal.SIGKILL)\n"
        "markers.write_atomically(Path(sys.argv[1]), b'new')\n"
    )
    for before in (None, b"old"):
        if before:
            path.write_bytes(before)
        done = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert (path.read_bytes() if path.exists() else None) == before


def test_a_marker_that_cannot_be_written_fails_the_run_with_its_path_and_comes_later(pages: Pages) -> None:
    blocked = pages.tree.output_dir / "Ohio"
    pages.tree.output_dir.mkdir()
    blocked.write_text("a file where a folder should be")
    with pytest.raises(TransientError, match="cannot be written"):
        pages.ask()
    assert set(pages.gold()) == set(pages.tree.pages)
    blocked.unlink()
    assert pages.ask() == set()
    assert pages.marked() == set(pages.tree.pages)


def test_without_the_section_nothing_is_fetched_and_nothing_marked(
    transport: Transport, instance: dg.DagsterInstance, db: psycopg.Connection
) -> None:
    result = materialize(bronze.defs, ["bronze", "curricular_pages"], transport.settings, instance)
    assert result.success
    assert result.get_asset_materialization_events() == [], "a run with nothing to do replaces no metadata"
    assert markers.markers_of(transport.settings, page_task()) is None


def test_the_look_after_markers_finds_what_was_removed_and_no_plan_is_needed_for_it(pages: Pages) -> None:
    pages.ask()
    tasks = {pages.task.task_key: pages.task}
    assert look_after_markers(pages.settings, tasks) == {"asked_again": 0, "written": 0}
    pages.tree.marker_path(KEY).unlink()
    assert look_after_markers(pages.settings, tasks) == {"asked_again": 1, "written": 0}
    assert states(pages.db, "page.curricular")[KEY] == ("pending", 0, None)
    assert pages.ask() == {KEY}


def test_a_gold_page_is_traced_to_its_label_and_image(pages: Pages) -> None:
    pages.ask()
    spec = gold_specs()["gold.curricular_pages"]
    [record] = trace_gold(pages.db, spec, KEY, LocalReader(pages.settings.bronze_path)).records
    assert (record.table, record.key, record.is_current) == ("silver.curricular_pages", KEY, True)
    hashes = {artifact.name: artifact.sha256 for artifact in record.item.artifacts}
    assert hashes == {
        "label.json": sha256(pages.tree.label_path(KEY).read_bytes()).hexdigest(),
        "image.png": sha256(pages.tree.image_path(KEY).read_bytes()).hexdigest(),
    }
    item = trace_bronze(pages.db, record.item.file_id, silver_specs().values(), gold_specs().values())
    assert [(rows.table, rows.rows, rows.examples) for rows in item.gold] == [("gold.curricular_pages", 1, (KEY,))]


def test_the_sensor_asks_for_a_run_when_a_folder_changed_and_for_no_other(pages: Pages) -> None:
    definition = next(sensor for sensor in bronze.defs.sensors or () if sensor.name == "tree_curricular_pages")

    def tick() -> str | None:
        with dg.build_sensor_context(instance=pages.instance, resources={"settings": pages.settings}) as context:
            result = definition.evaluate_tick(context)
        return result.run_requests[0].run_key if result.run_requests else None

    first = tick()
    assert first is not None
    assert first.startswith("bronze/curricular_pages/")
    assert tick() == first
    pages.tree.label_path(KEY).write_bytes(pages.tree.label_path(KEY).read_bytes())
    assert tick() == first
    write_page(pages.tree, "Ohio:Lincoln:1987:77", Random(1))
    assert tick() not in (None, first)


def test_without_the_section_the_sensor_says_that_the_source_is_off(transport: Transport, instance: dg.DagsterInstance) -> None:
    definition = next(sensor for sensor in bronze.defs.sensors or () if sensor.name == "tree_curricular_pages")
    with dg.build_sensor_context(instance=instance, resources={"settings": transport.settings}) as context:
        result = definition.evaluate_tick(context)
    assert "no section 'curricular'" in str(result.skip_message)
