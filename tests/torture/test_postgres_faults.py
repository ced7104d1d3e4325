"""Postgres fails in the middle of a load: out of disk, one backend killed, the connection cut, a deadlock, a frozen server.

The load stops with an error that says what happened, and the next run gives the tables that an undisturbed load gives. The
loading process is that of `test_load_crash`, whose ledger that is committed too early is the bug that these checks see.
"""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from medallion_defs.core import db
from medallion_defs.core.errors import TransientError
from medallion_defs.core.settings import Settings
from medallion_defs.silver.loader import classify_database_error
from medallion_defs.stack.migrate import migrate
from medallion_defs.stack.postgres import EmbeddedPostgres
from tests.folders import fresh_folder, fresh_server
from tests.torture.test_load_crash import (
    ROOT,
    assert_whole,
    digests,
    load_batches,
    load_undisturbed,
    start_loading,
)

RECORDS = 20_000
BUSY = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query ILIKE %s"


@pytest.fixture
def own_server() -> Iterator[EmbeddedPostgres]:
    """A server of this test's own, migrated."""
    with fresh_server() as server:
        server.start()
        migrate(ROOT, server.url())
        yield server


def wait_for_query(url: str, part: str) -> int:
    """Return the process of the backend that runs a query with `part` in it, as soon as there is one."""
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            rows = connection.execute(BUSY, (f"%{part}%",)).fetchall()
            if rows:
                return int(rows[0][0])


def test_a_load_whose_backend_is_killed_is_whole_after_the_next_run(own_server: EmbeddedPostgres) -> None:
    url = own_server.url()
    expected = load_undisturbed(url, RECORDS)
    with start_loading(url, RECORDS) as process:
        os.kill(wait_for_query(url, "insert into"), signal.SIGKILL)
        assert process.wait(120) != 0
    own_server.start()  # Postgres restarts all of its backends; this waits until it answers
    load_batches(url, RECORDS)
    assert_whole(url, expected)


def test_a_load_that_finds_the_disk_full_is_whole_once_there_is_space() -> None:
    if os.geteuid() != 0:
        pytest.skip("NO FULL DISK TRIED: mounting a small file system needs root")
    with small_mount("300m") as mount:
        server = EmbeddedPostgres(mount / "postgres")
        server.start()
        try:
            migrate(ROOT, server.url())
            expected = load_undisturbed(server.url(), RECORDS)
            ballast = mount / "ballast"
            leave_free(mount, ballast, 1_000_000)
            with start_loading(server.url(), RECORDS) as process:
                assert process.wait(120) != 0, "the disk was not full"
            ballast.unlink()
            server.start()  # without space for its log Postgres stops, by design
            load_batches(server.url(), RECORDS)
            assert_whole(server.url(), expected)
        finally:
            server.stop()


@contextmanager
def small_mount(size: str) -> Iterator[Path]:
    with fresh_folder() as folder:
        mount = folder / "small"
        mount.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mount)], check=False)
        if mounted.returncode:
            pytest.skip("NO FULL DISK TRIED: this machine does not let us mount a small file system")
        mount.chmod(0o755)
        try:
            yield mount
        finally:
            subprocess.run(["umount", str(mount)], check=True)


def leave_free(mount: Path, ballast: Path, bytes_left: int) -> None:
    state = os.statvfs(mount)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - bytes_left)


class CutConnection:
    """A way to the server that ends after so many bytes from the client. Both sides are Unix sockets."""

    def __init__(self, server: EmbeddedPostgres, folder: Path, after_bytes: int) -> None:
        self._target = str(server.socket_folder / ".s.PGSQL.5432")
        self._left = after_bytes
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / ".s.PGSQL.5432"))
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        client, _ = self._listener.accept()
        with client, socket.socket(socket.AF_UNIX) as target:
            target.connect(self._target)
            back = threading.Thread(target=self._copy_back, args=(target, client), daemon=True)
            back.start()
            while self._left > 0 and (chunk := client.recv(min(4_096, self._left))):
                self._left -= len(chunk)
                target.sendall(chunk)
            for end in (client, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            back.join()

    @staticmethod
    def _copy_back(target: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while chunk := target.recv(65_536):
                client.sendall(chunk)

    def close(self) -> None:
        self._listener.close()
        self._thread.join(10)


@pytest.mark.parametrize("after_bytes", [2_000, 20_000, 60_000, 100_000])
def test_a_load_whose_connection_is_cut_is_whole_after_the_next_run(
    postgres: EmbeddedPostgres, database_url: str, after_bytes: int
) -> None:
    records = 1_000
    expected = load_undisturbed(database_url, records)
    real = quote(str(postgres.socket_folder), safe="")
    with fresh_folder() as folder:
        cut = CutConnection(postgres, folder, after_bytes)
        try:
            with pytest.raises(psycopg.OperationalError) as failure:
                load_batches(database_url.replace(real, quote(str(folder), safe="")), records)
        finally:
            cut.close()
    assert isinstance(classify_database_error(failure.value), TransientError)
    load_batches(database_url, records)
    assert_whole(database_url, expected)


def test_the_harness_sees_a_ledger_that_is_committed_before_its_rows(postgres: EmbeddedPostgres, database_url: str) -> None:
    records = 1_000
    expected = load_undisturbed(database_url, records)
    real = quote(str(postgres.socket_folder), safe="")
    with fresh_folder() as folder:
        cut = CutConnection(postgres, folder, 60_000)
        try:
            with pytest.raises(psycopg.OperationalError):
                load_batches(database_url.replace(real, quote(str(folder), safe="")), records, ledger_first=True)
        finally:
            cut.close()
    load_batches(database_url, records)
    assert digests(database_url) != expected


def test_a_load_that_loses_a_deadlock_is_tried_again_and_whole(database_url: str) -> None:
    records = 1_000
    expected = load_undisturbed(database_url, records)
    caught: list[psycopg.Error] = []

    def load() -> None:
        try:
            load_batches(database_url, records)
        except psycopg.Error as error:
            caught.append(error)

    with psycopg.connect(database_url) as other, psycopg.connect(database_url, autocommit=True) as watcher:
        other.execute("SET deadlock_timeout = '5min'")  # so that the loader finds the circle, and loses
        other.execute("LOCK TABLE silver.rejected_rows IN ACCESS EXCLUSIVE MODE")
        loading = threading.Thread(target=load)
        loading.start()
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'silver.rejected_rows'::regclass"
        while watcher.execute(waiting).fetchone() == (0,):
            assert loading.is_alive(), "the load did not wait for the lock"
        # The loader holds the advisory lock of its table by now; this waits for the loader, and the loader for this.
        other.execute("SELECT pg_advisory_xact_lock(classid::bigint << 32 | objid::bigint) FROM pg_locks WHERE locktype = 'advisory'")
        other.rollback()
        loading.join(60)
    assert [type(error) for error in caught] == [psycopg.errors.DeadlockDetected]
    assert isinstance(classify_database_error(caught[0]), TransientError)
    load_batches(database_url, records)
    assert_whole(database_url, expected)


def test_a_frozen_server_is_one_transient_sentence_and_work_goes_on_when_it_thaws(own_server: EmbeddedPostgres, tmp_path: Path) -> None:
    url = own_server.url()
    expected = load_undisturbed(url, 1_000)
    settings = Settings(root=ROOT, data_dir=tmp_path, database_url=url)
    postmaster = own_server.pid()
    assert postmaster is not None
    os.kill(postmaster, signal.SIGSTOP)
    try:
        with pytest.raises(TransientError, match="Postgres does not answer at the address"):
            db.connect(settings, "owner")
    finally:
        os.kill(postmaster, signal.SIGCONT)
    load_batches(url, 1_000)
    assert_whole(url, expected)
