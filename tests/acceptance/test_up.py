"""`medallion up` as people use it: it starts, survives the death of any of its processes, and leaves none behind."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest

from medallion_defs.core.errors import TransientError
from medallion_defs.core.settings import Settings
from medallion_defs.stack.health import is_guarded, read_health
from medallion_defs.stack.running import RunningStack, await_start, running_stack, start_up, stop_up
from medallion_defs.stack.state import StackState
from tests.conftest import ROOT
from tests.folders import stack_folder

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(1200)]

SCRIPTS = Path(sysconfig.get_path("scripts"))
CHILDREN = {"code-bronze", "code-silver", "code-gold", "daemon", "web"}
SLOW_JOB = """
import time
import dagster as dg

@dg.op
def sleep_long():
    time.sleep(600)

@dg.job(executor_def=dg.in_process_executor)
def slow():
    sleep_long()

defs = dg.Definitions(jobs=[slow])
"""
EMPTY = "import dagster as dg\n\ndefs = dg.Definitions()\n"
LAUNCH = """mutation($job: JobOrPipelineSelector!) {
  launchRun(executionParams: {selector: $job}) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}"""
RUN_STATUS = "query($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"


@pytest.fixture
def folder() -> Iterator[Path]:
    with stack_folder() as folder:
        yield folder


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    """One stack, shared by the tests that leave it as well as they found it."""
    with stack_folder() as folder, running_stack(Settings(root=ROOT, data_dir=folder / "data")) as stack:
        yield stack


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended; one that nobody has waited for yet has."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text() if Path("/proc/self").exists() else ""
        os.kill(pid, 0)
    except (ProcessLookupError, FileNotFoundError):
        return True
    return status.rpartition(")")[2].split()[:1] == ["Z"]


def wait_until(what: str, is_done: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not is_done():
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.1)


def pids(state: StackState) -> dict[str, int]:
    return {**state.children, **({"postgres": state.postgres_pid} if state.postgres_pid else {})}


def is_healthy(stack: RunningStack) -> bool:
    try:
        return set(stack.state.children) == CHILDREN and read_health(stack.graphql_url).is_healthy
    except TransientError:
        return False


def medallion(*arguments: str, data: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "MEDALLION_ROOT": str(ROOT), "MEDALLION_DATA_DIR": str(data)}
    return subprocess.run([SCRIPTS / "medallion", *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_all_three_locations_are_loaded_and_the_daemon_is_alive(stack: RunningStack) -> None:
    locations = stack.ask("{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }")["workspaceOrError"]
    assert {entry["name"] for entry in locations["locationEntries"]} == {"bronze", "silver", "gold"}
    assert read_health(stack.graphql_url).is_healthy
    assert set(stack.state.children) == CHILDREN


def test_a_foreign_name_and_a_foreign_page_are_refused(stack: RunningStack) -> None:
    assert is_guarded(stack.url)
    body = json.dumps({"query": 'mutation { setConcurrencyLimit(concurrencyKey: "foreign", limit: 1) }'}).encode()
    for headers in ({"Host": "rebound.test"}, {"Origin": "http://127.0.0.1:1"}):
        request = urllib.request.Request(stack.graphql_url, body, {"Content-Type": "application/json", **headers})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=60)
        refused.value.close()
        assert refused.value.code == 403


def test_the_stack_listens_on_one_port(stack: RunningStack) -> None:
    listening: set[int] = set()
    for pid in (stack.process.pid, *pids(stack.state).values()):
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # a run's worker that has ended
                listening |= {socket.laddr[1] for socket in process.net_connections("inet") if socket.status == "LISTEN"}
    assert listening == {int(stack.url.rpartition(":")[2])}


def test_a_second_up_on_the_same_folder_is_refused_in_one_sentence(stack: RunningStack) -> None:
    done = medallion("up", "--port", "0", data=stack.settings.data_path)
    assert done.returncode == 1
    assert f"already runs on {stack.settings.data_path} (process {stack.process.pid})" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_busy_port_is_named_with_the_option_that_helps(stack: RunningStack, tmp_path: Path) -> None:
    port = stack.url.rpartition(":")[2]
    done = medallion("up", "--port", port, data=tmp_path / "data")
    assert done.returncode == 1
    assert f"Port {port} is taken" in done.stderr
    assert "--port" in done.stderr
    assert not (tmp_path / "data").exists()


def test_the_doctor_sees_the_running_stack(stack: RunningStack) -> None:
    done = medallion("doctor", "--port", stack.url.rpartition(":")[2], data=stack.settings.data_path)
    assert done.returncode == 0, done.stdout
    assert f"Medallion runs here (process {stack.process.pid})" in done.stdout


def test_the_workspace_for_dagster_dev_loads(stack: RunningStack) -> None:
    command = [SCRIPTS / "dagster", "definitions", "validate", "-w", "workspace.yaml"]
    done = subprocess.run(command, cwd=ROOT, env=stack.environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert all(f"Validation successful for code location {name}" in done.stderr + done.stdout for name in ("bronze", "silver", "gold"))


@pytest.mark.parametrize("victim", ["daemon", "web", "code-silver", "postgres"])
def test_a_killed_process_is_restarted_and_all_is_well_again(stack: RunningStack, victim: str) -> None:
    old = stack.kill(victim, signal.SIGKILL)
    stack.wait_for(f"another {victim}", lambda: pids(stack.state).get(victim, old) != old)
    stack.wait_for("health", lambda: is_healthy(stack))
    with psycopg.connect(stack.databases.medallion_url) as connection:
        assert connection.execute("SELECT count(*) FROM ops.schema_versions").fetchone() == (1,)
    assert stack.process.poll() is None


def test_one_signal_stops_every_process_and_the_exit_code_is_0(folder: Path) -> None:
    settings = Settings(root=ROOT, data_dir=folder / "data")
    with running_stack(settings) as stack:
        everything = pids(stack.state)
        assert set(everything) == CHILDREN | {"postgres"}
        stack.process.send_signal(signal.SIGINT)
        assert stack.process.wait(60) == 0
    assert [name for name, pid in everything.items() if not is_gone(pid)] == []


def test_a_second_signal_does_not_wait(folder: Path) -> None:
    with running_stack(Settings(root=ROOT, data_dir=folder / "data")) as stack:
        everything = pids(stack.state)
        # A process that does not listen: without the second signal it would be waited for.
        stack.kill("daemon", signal.SIGSTOP)
        stack.process.send_signal(signal.SIGTERM)
        stack.wait_for("the start of the stop", lambda: stack.state.phase == "stopping" or is_gone(everything["web"]))
        stack.process.send_signal(signal.SIGINT)
        assert stack.process.wait(10) == 0
    assert [name for name, pid in everything.items() if not is_gone(pid)] == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="only Linux tells children of their parent's death")
def test_after_kill_9_of_everything_the_next_up_attaches_and_closes_the_run_left_open(folder: Path) -> None:
    settings = make_project(folder)
    with tempfile.TemporaryFile() as output:
        process = start_up(settings, 0, {}, output)
        first = RunningStack(settings, process)
        try:
            await_start(first, output)
            run_id = launch_slow_run(first)
            before = first.state
            process.kill()
            process.wait()
            # A code server finishes the run in progress before it goes; the others go at once.
            idle = {name: pid for name, pid in before.children.items() if name != "code-silver"}
            wait_until("the end of the children", lambda: all(is_gone(pid) for pid in idle.values()))
            assert before.postgres_pid is not None
            assert not is_gone(before.postgres_pid)
        finally:
            stop_up(process, output)
    with running_stack(settings) as second:
        assert second.state.postgres_pid == before.postgres_pid
        assert is_gone(before.children["code-silver"])
        assert second.ask(RUN_STATUS, {"id": run_id})["runOrError"]["status"] == "FAILURE"


def make_project(folder: Path) -> Settings:
    """Copy the project to `folder`, with a silver location whose only job takes ten minutes."""
    root = folder / "project"
    for name in ("medallion_defs", "migrations"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dagster.yaml", "medallion.yaml"):
        shutil.copy(ROOT / name, root / name)
    for name, text in {"bronze": EMPTY, "silver": SLOW_JOB, "gold": EMPTY}.items():
        (root / "medallion_defs/locations" / f"{name}.py").write_text(text)
    return Settings(root=root, data_dir=folder / "data")


def launch_slow_run(stack: RunningStack) -> str:
    """Start the slow job and wait until it works; return the run's id."""
    selector = {"repositoryLocationName": "silver", "repositoryName": "__repository__", "jobName": "slow"}
    launched = stack.ask(LAUNCH, {"job": selector})["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id: str = launched["run"]["runId"]
    stack.wait_for("the run's start", lambda: stack.ask(RUN_STATUS, {"id": run_id})["runOrError"]["status"] == "STARTED")
    return run_id
