"""The pure decisions of the stack: when to restart, which URLs are right, what an answer about health means."""

from pathlib import Path
from typing import Any

import pytest

from medallion_defs.core.errors import ConfigurationError, TransientError
from medallion_defs.core.settings import Settings
from medallion_defs.stack.child import describe_exit
from medallion_defs.stack.databases import check_urls
from medallion_defs.stack.doctor import judge_disk, judge_python
from medallion_defs.stack.health import judge_health
from medallion_defs.stack.lock import lock_holder, stack_lock
from medallion_defs.stack.logs import ErrorRelay, cap_log, shorten_errors, tail
from medallion_defs.stack.supervisor import restart_delay

OURS = "postgresql://u@h/medallion"
DAGSTERS = "postgresql+psycopg2://u@h/dagster"


def project(database_url: str | None) -> Settings:
    return Settings(root=Path("/nowhere"), database_url=database_url)


def test_restarts_wait_longer_each_time_and_end() -> None:
    deaths: list[float] = []
    delays = []
    for second in range(6):
        deaths.append(float(second))
        delays.append(restart_delay(deaths, float(second)))
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, None]


def test_deaths_of_long_ago_are_forgotten() -> None:
    assert restart_delay([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 3600.0], 3600.0) == 0.5


def test_without_urls_the_embedded_server_serves_both() -> None:
    assert check_urls(project(None), {}) is None


def test_with_both_urls_dagster_gets_its_own() -> None:
    assert check_urls(project(OURS), {"DAGSTER_PG_URL": DAGSTERS}) == DAGSTERS


@pytest.mark.parametrize(
    ("ours", "dagsters", "named"),
    [
        (OURS, None, "DAGSTER_PG_URL is not"),
        (None, DAGSTERS, "MEDALLION_DATABASE_URL is not"),
        (OURS, "postgresql://u@h/dagster", "needs 'postgresql\\+psycopg2://'"),
        ("postgresql+psycopg2://u@h/x", DAGSTERS, "needs 'postgresql://'"),
    ],
)
def test_a_missing_or_wrong_url_is_named_with_its_remedy(ours: str | None, dagsters: str | None, named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        check_urls(project(ours), {"DAGSTER_PG_URL": dagsters} if dagsters else {})


def answer(load_status: str = "LOADED", kind: str = "RepositoryLocation", healthy: bool = True) -> dict[str, Any]:
    daemons = [
        {"daemonType": "SENSOR", "required": True, "healthy": healthy},
        {"daemonType": "ASSET", "required": False, "healthy": False},
    ]
    entry = {"name": "silver", "loadStatus": load_status, "locationOrLoadError": {"__typename": kind, "message": "no module x"}}
    return {"instance": {"daemonHealth": {"allDaemonStatuses": daemons}}, "workspaceOrError": {"locationEntries": [entry]}}


def test_health_counts_required_daemons_and_loaded_locations() -> None:
    assert judge_health(answer()).is_healthy
    assert judge_health(answer(healthy=False)).waiting_daemons == ["SENSOR"]
    assert judge_health(answer(load_status="LOADING")).loading == ["silver"]
    assert judge_health(answer(kind="PythonError")).broken == {"silver": "no module x"}


def test_an_unreadable_workspace_is_not_an_empty_one() -> None:
    broken = answer() | {"workspaceOrError": {"message": "bad yaml"}}
    with pytest.raises(TransientError, match="bad yaml"):
        judge_health(broken)


def test_an_exit_is_said_in_words() -> None:
    assert describe_exit(-9) == "signal SIGKILL"
    assert describe_exit(1) == "exit code 1"


def test_the_terminal_gets_error_lines_once_without_colour_and_a_count_of_the_rest() -> None:
    noise = "INFO all is well\n\x1b[31m12:00 - ERROR - tick 1\x1b[0m\nERROR:dagster.daemon:tick 1\n"
    assert shorten_errors(noise) == ["12:00 - ERROR - tick 1"]
    assert shorten_errors("ERROR x\n" * 8)[-1] == "… and 3 more"


def test_the_relay_gives_complete_new_lines_only(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("ERROR of last time\n")
    relay = ErrorRelay.from_now(log)
    with log.open("a") as file:
        file.write("ERROR one\nERROR t")
    assert relay.read() == ["ERROR one"]
    with log.open("a") as file:
        file.write("wo\n")
    assert relay.read() == ["ERROR two"]
    assert relay.read() == []


def test_a_log_that_grew_too_large_is_set_aside_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n" * 100)
        cap_log(log, most_bytes=100)
        writer.write(b"new\n")
    assert tail(log) == "new"
    assert (tmp_path / "x.log.1").read_bytes() == b"old\n" * 100


def test_the_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    with stack_lock(tmp_path):
        assert (lock_holder(tmp_path) or "").startswith("process ")
        with pytest.raises(ConfigurationError, match="already runs on"), stack_lock(tmp_path):
            pass
    assert lock_holder(tmp_path) is None
    with stack_lock(tmp_path):
        pass


def test_the_doctor_judges_python_and_disk() -> None:
    assert judge_python((3, 11)).verdict == judge_python((3, 14)).verdict == "ok"
    assert judge_python((3, 10)).verdict == "problem"
    verdicts = [judge_disk(megabytes * 1024**2, Path("/x")).verdict for megabytes in (10, 1000, 10_000)]
    assert verdicts == ["problem", "warning", "ok"]
