"""The embedded Postgres: private, restartable after any death, and never confused by what an earlier one left."""

import concurrent.futures
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest

from medallion_defs.core.errors import ConfigurationError, TransientError
from medallion_defs.core.settings import Settings
from medallion_defs.stack.databases import database_at_hand, embedded_postgres
from medallion_defs.stack.lock import stack_lock
from medallion_defs.stack.postgres import DAGSTER_DATABASE, DATABASE, EmbeddedPostgres
from tests.folders import fresh_server


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    with fresh_server() as server:
        yield server


def write_row(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.url()) as connection:
        connection.execute("CREATE TABLE kept (value int)")
        connection.execute("INSERT INTO kept VALUES (1)")


def read_rows(server: EmbeddedPostgres) -> list[tuple[object, ...]]:
    with psycopg.connect(server.url()) as connection:
        return connection.execute("SELECT value FROM kept").fetchall()


def test_both_databases_are_there_and_nobody_else_may_enter(server: EmbeddedPostgres) -> None:
    server.start()
    for database in (DATABASE, DAGSTER_DATABASE):
        psycopg.connect(server.url(database)).close()
    assert server.socket_folder.stat().st_mode & 0o077 == 0
    assert server.cluster.stat().st_mode & 0o077 == 0
    assert (server.folder / "password").stat().st_mode & 0o077 == 0
    with psycopg.connect(server.url()) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(server.url(), password="wrong")


def test_starting_twice_attaches_and_stopping_twice_is_fine(server: EmbeddedPostgres) -> None:
    server.start()
    pid = server.pid()
    server.start()
    assert server.pid() == pid
    server.stop()
    server.stop()
    assert server.pid() is None
    assert not server.socket_folder.exists()


def test_two_starts_at_once_make_one_cluster_and_one_server(server: EmbeddedPostgres) -> None:
    program = (
        "import sys; from pathlib import Path; from medallion_defs.stack.postgres import EmbeddedPostgres\n"
        "EmbeddedPostgres(Path(sys.argv[1])).start()"
    )
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        command = [sys.executable, "-c", program, str(server.folder)]
        done = list(pool.map(lambda _: subprocess.run(command, capture_output=True, text=True, check=False), range(3)))
    assert [process.stderr for process in done if process.returncode] == []
    assert server.is_running()


def test_what_was_committed_survives_kill_9_of_the_postmaster(server: EmbeddedPostgres) -> None:
    server.start()
    write_row(server)
    pid = server.pid()
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    server.start()
    assert server.pid() != pid
    assert read_rows(server) == [(1,)]


def test_a_hurried_stop_loses_nothing_committed(server: EmbeddedPostgres) -> None:
    server.start()
    write_row(server)
    server.stop(hurry=True)
    server.start()
    assert read_rows(server) == [(1,)]


def test_a_pid_file_whose_number_is_another_program_s_by_now_harms_neither(server: EmbeddedPostgres) -> None:
    server.start()
    write_row(server)
    pid_file = server.cluster / "postmaster.pid"
    lines = pid_file.read_text().split("\n", 1)[1]
    server.stop()
    # The innocent runs as the account of the server: of other accounts' programs Postgres takes no notice.
    owner = server.cluster.stat().st_uid
    with subprocess.Popen(["sleep", "600"], user=owner if os.geteuid() == 0 else None) as innocent:
        pid_file.write_text(f"{innocent.pid}\n{lines}")
        os.chown(pid_file, owner, -1)
        try:
            server.stop()
            assert innocent.poll() is None
            server.start()
            assert innocent.poll() is None
            assert read_rows(server) == [(1,)]
        finally:
            innocent.kill()


def test_an_initdb_that_was_killed_half_way_is_done_again(server: EmbeddedPostgres) -> None:
    unfinished = server.folder / "cluster.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    server.start()
    assert server.is_running()
    assert not unfinished.exists()


def test_a_server_that_cannot_start_says_why(server: EmbeddedPostgres) -> None:
    server.start()
    server.stop()
    (server.cluster / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(TransientError, match="no_such_setting"):
        server.start()


def test_a_command_without_a_stack_runs_the_server_for_itself_and_holds_the_folder(server: EmbeddedPostgres) -> None:
    settings = Settings(root=server.folder.parent, data_dir=server.folder.parent)
    with database_at_hand(settings) as ready:
        psycopg.connect(ready.require_database_url()).close()
        with pytest.raises(ConfigurationError, match="already runs"), stack_lock(settings.data_path):
            pass
    assert embedded_postgres(settings.data_path).pid() is None


def test_a_command_beside_a_stack_shares_its_server_and_leaves_it_running(server: EmbeddedPostgres) -> None:
    settings = Settings(root=server.folder.parent, data_dir=server.folder.parent)
    server.start()
    with stack_lock(settings.data_path):
        with database_at_hand(settings) as ready:
            psycopg.connect(ready.require_database_url()).close()
        assert server.is_running()
