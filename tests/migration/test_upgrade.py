"""The upgrade of a database of release 0.1: nothing is outdated, tried again or asked unless this release reads it otherwise."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy
from psycopg import sql
from sqlalchemy import event

from medallion_defs.core import clock
from medallion_defs.core.code_version import CodeVersions
from medallion_defs.core.sections import SourceSettings
from medallion_defs.genai.answers import PARSING
from medallion_defs.genai.match import MATCHING
from medallion_defs.labeling.assets.open_work import look
from medallion_defs.labeling.engine.plan import plan_task
from medallion_defs.labeling.models.answers import SOURCE_TYPES, code_of
from medallion_defs.labeling.outdated import describe_outdated
from medallion_defs.labeling.registry import in_order, load_tasks
from medallion_defs.locations.silver import load_contents
from medallion_defs.ops.ledger import Ledger
from medallion_defs.stack.migrate import alembic_config, migrate, newest_revision
from medallion_defs.stack.postgres import EmbeddedPostgres
from tests.conftest import ROOT
from tests.migration.release_0_1 import REVISION, restore

NEVER_READ = "strange.pdf"  # no recipe is for it, in either release
SUMMARIES = "SELECT task_id, status, attempts FROM silver.tasks_todo WHERE task_key = 'text.summarize' ORDER BY 1"
CATALOG = """
SELECT relation.oid::regclass::text, attname, atttypid::regtype::text FROM pg_class AS relation
JOIN pg_attribute ON attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
WHERE relnamespace IN ('ops'::regnamespace, 'silver'::regnamespace, 'gold'::regnamespace) AND relkind IN ('r', 'i')
UNION ALL SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'ops'::regnamespace
UNION ALL SELECT 'function', proname, '' FROM pg_proc WHERE pronamespace = 'ops'::regnamespace
UNION ALL SELECT 'version', file_id::text, code_version FROM ops.file_ingestions
UNION ALL SELECT 'revision', version_num, '' FROM ops.schema_versions
ORDER BY 1, 2, 3
"""


@pytest.fixture
def old(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URL of a database of release 0.1."""
    name = f"old_{uuid4().hex}"
    yield restore(postgres, name)
    with psycopg.connect(postgres.url("postgres"), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def statuses(db: psycopg.Connection) -> dict[str, str]:
    return dict(db.execute("SELECT coalesce(bronze_filename, external_id), status FROM ops.file_ingestions").fetchall())


def tick(db: psycopg.Connection) -> set[str]:
    """Claim as the sensors do; return the files that were dead and are not any more."""
    before = statuses(db)
    for content in load_contents():
        Ledger(db).claim(content.source.name, SourceSettings(max_in_flight=1), content.code, clock.now())
    for source_type in SOURCE_TYPES:
        Ledger(db).claim(source_type, SourceSettings(), code_of(load_tasks()), clock.now())
    after = statuses(db)
    return {name for name, status in before.items() if status == "dead" and after[name] != "dead"}


def read_otherwise(db: psycopg.Connection) -> set[str]:
    """The files of which this release's versions are not those of 0.1, which are written down in the migration."""
    found = set()
    codes = {content.source.name: content.code for content in load_contents()} | dict.fromkeys(SOURCE_TYPES, code_of(load_tasks()))
    for source_type, name, version in db.execute("SELECT source_type, bronze_filename, code_version FROM ops.file_ingestions"):
        if version != codes[source_type].of(name):
            found.add(name)
    return found


def test_invariant_8_an_upgrade_tries_again_only_what_is_read_otherwise_now(old: str) -> None:
    migrate(ROOT, old)
    with psycopg.connect(old) as db:
        changed = read_otherwise(db)
        dead = {name for name, status in statuses(db).items() if status == "dead"}
        assert len(dead) == 5
        assert NEVER_READ not in changed
        assert tick(db) == dead & changed
        assert tick(db) == set()
        if (MATCHING, PARSING) == (1, 1):
            assert not any(name.startswith("text.summarize") for name in changed)


def test_an_upgrade_asks_no_model_and_tries_no_paid_task_again(old: str) -> None:
    migrate(ROOT, old)
    tasks = load_tasks()
    paid = [task for task in in_order(tasks) if task.spec.model]
    with psycopg.connect(old) as db:
        before = db.execute(SUMMARIES).fetchall()
        assert sorted(status for _, status, _ in before) == ["dead", "succeeded", "succeeded", "succeeded"]
        found, _ = look(db, paid, None, clock.now())
        assert "text.summarize" not in found
        report = plan_task(db, tasks["text.summarize"])
        assert (report.planned, report.rearmed, report.batched, report.batch_ids) == (0, 0, 0, ())
        after = db.execute(SUMMARIES).fetchall()
        assert after == before
        # Not even when its code has changed: new code must not spend money by itself.
        db.execute("UPDATE silver.tasks_todo SET code_version = 'another'")
        assert plan_task(db, tasks["text.summarize"]).rearmed == 0
        assert plan_task(db, tasks["image.thumbnail_phash"]).rearmed == 1


def test_without_the_translation_everything_would_be_tried_again(old: str, tmp_path: Path) -> None:
    """The test above sees it when the migration forgets to translate."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "migrations", project / "migrations", ignore=shutil.ignore_patterns("__pycache__"))
    [migration] = (project / "migrations" / "versions").glob("*_code_versions_of_files.py")
    text = migration.read_text(encoding="utf-8")
    migration.write_text(text.replace("    tasks = load_tasks()\n", "    return\n    tasks = load_tasks()\n"), encoding="utf-8")
    migrate(project, old)
    with psycopg.connect(old) as db:
        assert NEVER_READ in tick(db)


def upgrade_and_die(url: str, at: int) -> bool:
    """Upgrade with a connection that the server cuts before statement `at`; return whether it came so far."""
    count = 0

    def cut(connection: sqlalchemy.Connection, *_: object) -> None:
        nonlocal count
        count += 1
        if count == at:
            pid = connection.connection.dbapi_connection.info.backend_pid  # type: ignore[union-attr]  # psycopg's
            with psycopg.connect(url, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))

    event.listen(sqlalchemy.Engine, "before_cursor_execute", cut)
    try:
        migrate(ROOT, url)
    except sqlalchemy.exc.OperationalError:
        return True
    finally:
        event.remove(sqlalchemy.Engine, "before_cursor_execute", cut)
    return False


def catalog(url: str) -> list[tuple[str, ...]]:
    with psycopg.connect(url) as db:
        return db.execute(CATALOG).fetchall()


def test_an_upgrade_that_is_killed_at_any_statement_leaves_the_old_schema_and_succeeds_when_it_is_run_again(old: str) -> None:
    before, at = catalog(old), 1
    while upgrade_and_die(old, at):
        assert catalog(old) == before, f"the upgrade left something behind when it was cut at statement {at}"
        at += 1
    assert at > 10, "the upgrade has more statements than that"
    newest = newest_revision(alembic_config(ROOT, old))
    assert ("revision", newest, "") in catalog(old)
    with psycopg.connect(old) as db:
        assert db.execute("SELECT count(*) FROM pg_views WHERE schemaname = 'gold' AND viewname LIKE 'label%'").fetchone() != (0,)


def test_an_upgrade_that_committed_each_statement_would_be_found_half_done(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above sees it when the upgrade is not one transaction."""
    create_engine = sqlalchemy.create_engine
    monkeypatch.setattr(sqlalchemy, "create_engine", lambda *args, **options: create_engine(*args, **options, isolation_level="AUTOCOMMIT"))
    before, at = catalog(old), 1
    assert ("revision", REVISION, "") in before
    while upgrade_and_die(old, at) and catalog(old) == before:
        at += 1
    assert catalog(old) != before
    assert ("revision", newest_revision(alembic_config(ROOT, old)), "") not in catalog(old)


def test_status_says_how_much_is_outdated_which_command_does_it_again_and_what_a_model_might_be_asked(old: str) -> None:
    migrate(ROOT, old)
    tasks = load_tasks()
    with psycopg.connect(old) as db:
        [(stored,)] = db.execute("SELECT DISTINCT code_version FROM ops.file_ingestions WHERE source_type = 'articles'").fetchall()
        [(planned,)] = db.execute("SELECT DISTINCT code_version FROM silver.tasks_todo WHERE task_key = 'text.summarize'").fetchall()
        same = replace(tasks["text.summarize"], code_version=planned)
        assert describe_outdated(db, {"silver.articles": ("articles", CodeVersions((), stored))}, [same]) == {}
        other = replace(tasks["text.summarize"], code_version="other")
        said = describe_outdated(db, {"silver.articles": ("articles", CodeVersions((), "other"))}, [other])
        costs = db.execute("SELECT sum(cost_usd) FROM silver.tasks_results WHERE task_key = 'text.summarize'").fetchone()
    assert costs
    assert said["silver.articles"].startswith("silver.articles: 4 items were loaded by code that would do otherwise now.")
    assert "'medallion backfill silver.articles --scope outdated'" in said["silver.articles"]
    assert f"up to 3 questions again; their answers have cost {costs[0]:.4f} USD" in said["silver.articles"]
    assert "text.summarize: 3 results were made" in said["text.summarize"]
