"""One item never harms another: whatever an item's parser does, it alone fails, with what happened to it; the others are in silver.

The parser is planted: each file says in a word what is to happen when it is read.
"""

import ctypes
import multiprocessing
import os
import signal
from pathlib import Path

import psycopg
import pytest

from medallion_defs.core import clock, supervision
from medallion_defs.core.sections import SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.core.supervision import DyingWorkersError
from medallion_defs.ops.endings import Ending
from medallion_defs.ops.ledger import Ledger
from medallion_defs.silver import load_run
from medallion_defs.silver.load_run import LoadReport, load_batch
from medallion_defs.silver.loader import ItemLoad, load_items
from tests.integration.misbehaviour import ACTIONS, HANGING, let_time_pass_for_what_hangs
from tests.integration.planted_articles import CONTENT, claim, publish, rows

GOOD = 5
STOPPED = 9
BAD = "2-bad.html"


@pytest.fixture
def project(settings: Settings) -> Settings:
    return settings.model_copy(update={"sources": {"articles": SourceSettings()}})


@pytest.fixture
def impatient(project: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings by which an item may take a second."""
    let_time_pass_for_what_hangs(monkeypatch, tmp_path)
    return project.model_copy(update={"sources": {"articles": SourceSettings(max_item_seconds=1.0)}})


def publish_with(settings: Settings, word: str) -> None:
    publish(settings, **{f"{number}-good.html": "fine" for number in range(GOOD)}, **{BAD: word})


def load(settings: Settings) -> LoadReport:
    [batch_id] = claim(settings)
    return load_batch(settings, CONTENT, batch_id, "run-1")


def assert_others_loaded(db: psycopg.Connection) -> None:
    others = {name: row for name, row in rows(db).items() if name != BAD}
    assert others == {f"{number}-good.html": ("loaded", 1, None) for number in range(GOOD)}
    assert db.execute("SELECT count(*) FROM silver.articles").fetchone() == (GOOD,)


@pytest.mark.parametrize(
    ("word", "error_type", "text"),
    [
        ("lookup", "LookupError", "unknown encoding: undefined-charset (integration/misbehaviour.py, line "),
        ("unicode", "UnicodeDecodeError", "'utf-8' codec can't decode byte 0xff"),
        ("memory", "MemoryError", "MemoryError (integration/misbehaviour.py, line "),
        ("recursion", "RecursionError", "maximum recursion depth exceeded"),
        ("os", "TransientError", "Input/output error"),
        ("assertion", "AssertionError", "odd (integration/misbehaviour.py, line "),
        ("interrupt", "KeyboardInterrupt", "KeyboardInterrupt (integration/misbehaviour.py, line "),
        ("exit", "SystemExit", "3 (integration/misbehaviour.py, line "),
        ("panic", "BaseException", "a panic of a library in Rust"),
        ("wrong_type", "", "int"),
        ("nul", "", "0x00"),
    ],
)
def test_invariant_15_whatever_a_parser_raises_is_its_items_failure_with_its_own_text(
    project: Settings, db: psycopg.Connection, word: str, error_type: str, text: str
) -> None:
    publish_with(project, word)
    report = load(project)
    status, attempts, message = rows(db)[BAD]
    assert (status in {"retrying", "dead"}, attempts) == (True, 1)
    assert text in message
    if error_type:
        assert db.execute("SELECT silver_errors ->> 'error_type' FROM ops.file_ingestions WHERE external_id = %s", (BAD,)).fetchone() == (
            error_type,
        )
    assert len(report.failed) == 1
    assert_others_loaded(db)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("kill", "the worker died while it worked on this item: killed by signal 9 (SIGKILL), perhaps for want of memory."),
        ("segfault", "the worker died while it worked on this item: killed by signal 11 (SIGSEGV)."),
        ("leave", "the worker died while it worked on this item: ended by itself with exit code 7."),
        ("memory_in_c", "the worker died while it worked on this item: killed by signal 6 (SIGABRT)."),
    ],
)
def test_invariant_15_an_item_that_ends_its_worker_is_charged_alone_and_the_run_goes_on(
    project: Settings, db: psycopg.Connection, word: str, sentence: str
) -> None:
    publish_with(project, word)
    assert len(load(project).loaded) == GOOD
    status, attempts, message = rows(db)[BAD]
    assert (status, attempts) == ("retrying", 1)
    assert sentence in message
    assert_others_loaded(db)


@pytest.mark.parametrize("word", HANGING)
def test_invariant_15_an_item_that_takes_too_long_is_charged_alone_and_does_not_go_on(
    impatient: Settings, db: psycopg.Connection, word: str
) -> None:
    publish_with(impatient, word)
    assert len(load(impatient).loaded) == GOOD
    status, attempts, message = rows(db)[BAD]
    assert (status, attempts) == ("retrying", 1)
    assert "took longer than max_item_seconds (1), so its worker was ended. It was in integration/misbehaviour.py, line " in message
    assert_others_loaded(db)


def test_an_item_that_ends_its_worker_each_time_is_dead_after_its_attempts(project: Settings, db: psycopg.Connection) -> None:
    options = project.source("articles").model_copy(update={"retry_seconds": 0.0})
    project = project.model_copy(update={"sources": {"articles": options}})
    publish_with(project, "kill")
    for _ in range(3):
        load(project)
    assert rows(db)[BAD][:2] == ("dead", 3)
    assert claim(project) == []
    assert_others_loaded(db)


def test_when_it_is_unknown_which_item_did_it_the_batch_is_halved_until_one_is_alone(
    project: Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deadly(*arguments: object, **options: object) -> list[ItemLoad]:
        loads = load_items(*arguments, **options)  # type: ignore[arg-type]  # passed on as they came
        connection = arguments[0]
        assert isinstance(connection, psycopg.Connection)
        if connection.execute("SELECT 1 FROM silver.articles WHERE body_text = 'poison'").fetchone():
            os.kill(os.getpid(), signal.SIGKILL)
        return loads

    monkeypatch.setattr(load_run, "load_items", deadly)
    publish_with(project, "poison")
    load(project)
    status, attempts, message = rows(db)[BAD]
    assert (status, attempts) == ("retrying", 1)
    assert "the worker died while it worked on this item alone: killed by signal 9" in message
    assert_others_loaded(db)


@pytest.mark.parametrize("word", ["memory", "memory_in_c"])
def test_a_batch_that_needs_more_memory_than_there_is_is_loaded_in_smaller_parts_without_a_charge(
    project: Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    def hungry(*arguments: object, **options: object) -> list[ItemLoad]:
        loads = load_items(*arguments, **options)  # type: ignore[arg-type]  # passed on as they came
        if len(loads) > 2:
            ACTIONS[word]()
        return loads

    monkeypatch.setattr(load_run, "load_items", hungry)
    publish_with(project, "fine")
    assert len(load(project).loaded) == GOOD + 1
    assert {row[:2] for row in rows(db).values()} == {("loaded", 1)}


def test_deaths_that_no_item_explains_are_bounded_and_charge_nobody(
    project: Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "MOST_DEATHS", 3)
    publish(project, **{f"{number}.html": "kill" for number in range(8)})
    [batch_id] = claim(project)
    with pytest.raises(DyingWorkersError, match="3 workers of batch"):
        load_batch(project, CONTENT, batch_id, "run-1")
    assert sorted(row[:2] for row in rows(db).values()) == [("claimed", 1)] * 6 + [("retrying", 1)] * 2
    with psycopg.connect(project.require_database_url()) as connection:
        Ledger(connection).release_batch(batch_id, project.source("articles"), clock.now(), Ending("died", run_id="run-1"))
    assert sorted(row[:2] for row in rows(db).values()) == [("retrying", 0)] * 6 + [("retrying", 1)] * 2


def test_a_stop_takes_effect_inside_c_code_and_charges_nothing(
    project: Settings, db: psycopg.Connection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hangs = tmp_path / "hangs"

    def hang() -> object:
        hangs.touch()
        return ctypes.PyDLL(None).sleep(1_000)

    monkeypatch.setitem(ACTIONS, "hang", hang)
    publish_with(project, "hang")
    [batch_id] = claim(project)
    run = multiprocessing.get_context("fork").Process(target=run_until_stopped, args=(project, batch_id), daemon=True)
    run.start()
    while not hangs.exists() and run.exitcode is None:
        run.join(0.02)
    assert run.pid is not None
    os.kill(run.pid, signal.SIGINT)
    run.join()
    assert run.exitcode == STOPPED
    assert set(rows(db).values()) == {("pending", 0, None)}


def run_until_stopped(settings: Settings, batch_id: str) -> None:
    """Load as a run's process does. Whoever runs the tests may ignore SIGINT, as a script does in what it starts in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    try:
        load_batch(settings, CONTENT, batch_id, "run-1")
    except KeyboardInterrupt:
        os._exit(STOPPED)


def test_of_several_files_that_of_the_sources_name_is_read_and_a_single_file_whatever_its_name(
    project: Settings, db: psycopg.Connection
) -> None:
    publish(project, ("export.html",), single="fine")
    publish(project, ("notes.txt", "page.html"), named="fine")
    publish(project, ("export.html", "notes.txt"), unnamed="fine")
    load(project)
    found = rows(db)
    assert (found["single"][0], found["named"][0]) == ("loaded", "loaded")
    assert "articles/unnamed has 0 files named 'page'; the source reads one." in found["unnamed"][2]
