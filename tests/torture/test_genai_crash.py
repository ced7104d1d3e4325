"""A process of the transport that is killed at any step: nothing is paid twice, no answer is lost, and each record has one outcome.

The steps are all that touches anything: each statement and each commit, each call to the provider (before it, and after its effect),
each rename and each file that goes away. This file, run as a script, dies at one step after the other in forked children; after
each death the next round must finish what was begun.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from medallion_defs.core import clock, db
from medallion_defs.core.settings import Settings
from medallion_defs.genai import collect, requests
from medallion_defs.genai.client import GeminiClient
from medallion_defs.genai.collect import collect_batches
from medallion_defs.genai.emulator import running
from medallion_defs.genai.emulator_jobs import Provider
from medallion_defs.genai.poll import poll_batches
from medallion_defs.genai.submit import send_batches
from medallion_defs.labeling import runner
from medallion_defs.labeling.models.answers import read_ledger_batch
from medallion_defs.labeling.registry import Task
from medallion_defs.ops.ledger import Ledger
from tests.conftest import ROOT
from tests.integration.genai.conftest import genai_options, judge_task
from tests.integration.labeling.notes import CREATE_NOTES, put_notes

NOTES = 3
MOST_STEPS = 400


@dataclass
class Deadly:
    """Kills this process at the step of that number."""

    at: int
    steps: int = 0
    last: str = ""
    patches: list[tuple[Any, str, Any]] = field(default_factory=list)

    def wrap(self, owner: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def deadly(*args: Any, **kwargs: Any) -> Any:
            self.step(f"before {name}")
            answer = original(*args, **kwargs)
            self.step(f"after {name}")
            return answer

        setattr(owner, name, deadly)

    def step(self, name: str) -> None:
        self.steps += 1
        if self.steps == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def arm(at: int) -> None:
    deadly = Deadly(at)
    for name in ("execute", "commit"):
        deadly.wrap(psycopg.Connection, name)
    deadly.wrap(psycopg.Transaction, "__exit__")
    for name in ("upload", "create", "find", "read_job", "download"):
        deadly.wrap(GeminiClient, name)
    deadly.wrap(requests, "write_requests")
    deadly.wrap(collect.shutil, "rmtree")
    for name in ("rename", "fsync"):
        deadly.wrap(os, name)


def run_round(settings: Settings, task: Task) -> None:
    """One round of everything, as the locations' runs do it; goes on with whatever an earlier round left."""
    for batch_id in runner.plan(settings, task).batch_ids:
        runner.process(settings, task, batch_id)
    client = GeminiClient(settings.genai)
    with db.connect(settings, "medallion_bronze", autocommit=True) as connection:
        list(send_batches(settings, connection, client))
        poll_batches(connection, client, settings.genai, None, 5.0)
        list(collect_batches(settings, connection, client, "run"))
    with db.connect(settings, "medallion_gold") as connection:
        ledger, options = Ledger(connection), settings.source("gemini_batch")
        ledger.claim("gemini_batch", options, "v1", clock.now())
        batches = [batch.batch_id for batch in ledger.open_batches("gemini_batch")]
    for batch_id in batches:
        read_ledger_batch(settings, {task.task_key: task}, "gemini_batch", batch_id, "run")
    runner.consolidate(settings, task)


def finish(settings: Settings, task: Task, owner: psycopg.Connection) -> None:
    """Rounds until all is done. The time passes that a lease or a claim waits for."""
    for _ in range(8):
        owner.execute("UPDATE silver.tasks_batches SET lease_until = now() - interval '1 second' WHERE lease_token IS NOT NULL")
        owner.commit()
        run_round(settings, task)
        [(open_tasks,)] = owner.execute("SELECT count(*) FROM silver.tasks_todo WHERE status <> 'succeeded'").fetchall()
        owner.commit()
        if not open_tasks:
            return


def kill_at_every_step(url: str, data: Path, emulator: str) -> None:
    """Print, for each step, what there is after a death at it and the rounds after it; end when a round outlives its step."""
    settings = Settings(root=ROOT, data_dir=data, database_url=url, genai=genai_options(emulator))
    task = judge_task()
    for at in range(1, MOST_STEPS):
        key = f"s{at}"
        with psycopg.connect(url) as owner:
            put_notes(owner, **{f"{key}-{number}": f"note {key} {number}" for number in range(NOTES)})
        child = os.fork()
        if child == 0:
            arm(at)
            run_round(settings, task)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        with psycopg.connect(url) as owner:
            finish(settings, task, owner)
            sys.stdout.write(json.dumps({"at": at, "was_killed": os.WIFSIGNALED(status), **examine(owner, key)}) + "\n")
            sys.stdout.flush()
        if os.WIFEXITED(status):
            return


def examine(owner: psycopg.Connection, key: str) -> dict[str, int]:
    values = {"key": f"{key}-%", "all": 0}
    queries = {
        "results": "SELECT count(*) FROM silver.tasks_results WHERE subject_key LIKE %(key)s",
        "batches": "SELECT count(DISTINCT batch_id) FROM ops.batch_record_keys WHERE record_key LIKE %(key)s",
        "open_batches": "SELECT count(*) FROM ops.active_batches WHERE status <> 'completed'",
        "in_flight": "SELECT count(*) FROM ops.inflight_records",
        "successes": "SELECT count(*) FROM silver.tasks_status WHERE event = 'succeeded' AND task_id IN"
        " (SELECT task_id FROM silver.tasks_todo WHERE subject_key LIKE %(key)s)",
        "unloaded": "SELECT count(*) FROM ops.file_ingestions WHERE status <> 'loaded'",
    }
    return {name: int((owner.execute(query, values).fetchone() or (0,))[0]) for name, query in queries.items()}


@pytest.mark.timeout(600)
def test_invariant_1_and_9_killed_at_any_step_between_plan_and_result_nothing_is_lost_or_paid_twice(
    database_url: str, tmp_path: Path
) -> None:
    with psycopg.connect(database_url) as owner:
        owner.execute(CREATE_NOTES)
    provider = Provider()
    with running(provider) as emulator:
        words = [sys.executable, "-m", "tests.torture.test_genai_crash", database_url, str(tmp_path / "data"), emulator]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) > 60, "so many steps there are at least"
    assert [line["was_killed"] for line in lines] == [True] * (len(lines) - 1) + [False]
    good = {"results": NOTES, "batches": 1, "open_batches": 0, "in_flight": 0, "successes": NOTES, "unloaded": 0}
    for line in lines:
        assert {name: line[name] for name in good} == good, f"after a death at step {line['at']}"
    assert len(provider.jobs) == len(lines), "one paid job for each batch"


if __name__ == "__main__":
    kill_at_every_step(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
