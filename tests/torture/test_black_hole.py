"""A network that swallows every packet, and says so to neither side: what works over it ends, and the next run is right.

The server is reached by TCP on loopback, through sockets that a filter in the kernel makes deaf: what comes to them is dropped before
TCP sees it, so nothing is answered or acknowledged. The settings' minute is a few seconds here.
"""

import ctypes
import multiprocessing
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import psycopg
import pytest

from medallion_defs.core import clock, db
from medallion_defs.core.errors import TransientError
from medallion_defs.core.sections import SourceSettings, TaskSettings
from medallion_defs.core.settings import Settings
from medallion_defs.labeling import runner
from medallion_defs.labeling.contract import ProcessingResult, TaskContext, WorkItem
from medallion_defs.locations import silver
from medallion_defs.ops.endings import Ending
from medallion_defs.ops.ledger import BatchInUseError, Ledger
from medallion_defs.silver import load_run
from medallion_defs.silver.loader import ItemLoad, load_items
from medallion_defs.stack.migrate import migrate
from medallion_defs.stack.postgres import EmbeddedPostgres, _Runner, binaries
from tests.conftest import ROOT
from tests.folders import fresh_server
from tests.integration.labeling.notes import CREATE_NOTES, expire_leases, outputs, put_notes, shout, shout_task
from tests.integration.misbehaviour import ACTIONS
from tests.integration.planted_articles import CONTENT, claim, publish, rows
from tests.integration.test_sensors import tick

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NO BLACK HOLE TRIED: the filter is one of Linux")

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0))  # BPF: return 0 bytes of the packet
SILENT_SECONDS = 3


class Network:
    """A way to the server that can begin to swallow packets, in both directions, and let new connections pass later."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._ends: list[socket.socket] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    server = socket.create_connection(self._server)
                    self._ends += [client, server]
                    for one, other in ((client, server), (server, client)):
                        self._threads.append(threading.Thread(target=self._carry, args=(one, other), daemon=True))
                        self._threads[-1].start()

    @staticmethod
    def _carry(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while chunk := one.recv(65_536):
                other.sendall(chunk)
            other.shutdown(socket.SHUT_WR)

    def swallow(self) -> None:
        """From now on nothing that is sent arrives, on any connection, and no new one is made."""
        program = struct.pack("HP", 1, ctypes.addressof(DROP_ALL))
        with self._lock:
            for end in (self._listener, *self._ends):
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)

    def recover(self, *, old_connections: bool = False) -> None:
        """Let new connections pass. Those from before stay lost, as after a firewall's restart."""
        with self._lock:
            for end in (self._listener, *(self._ends if old_connections else ())):
                end.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)

    def close(self) -> None:
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        for thread in self._threads:
            thread.join(10)


@dataclass(frozen=True)
class Remote:
    """A server on another machine, as far as its clients can tell. `url`: by the network; `direct_url`: beside it."""

    network: Network
    url: str
    direct_url: str


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    monkeypatch.setattr(db, "SILENT_SECONDS", SILENT_SECONDS)
    monkeypatch.setattr(db, "CONNECT_SECONDS", SILENT_SECONDS)
    with fresh_server() as server:
        server.start()
        migrate(ROOT, server.url())
        login = urlsplit(server.url())
        server.stop()
        with serving_by_tcp(server) as port:
            network = Network(port)
            try:
                url = f"postgresql://{login.username}:{login.password}@127.0.0.1:{{}}/medallion"
                direct = url.format(port)
                wait_until_it_answers(direct)
                yield Remote(network, url.format(network.port), direct)
            finally:
                network.close()


@contextmanager
def serving_by_tcp(server: EmbeddedPostgres) -> Iterator[int]:
    """Run the stopped server's cluster on a port of loopback."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    command = [str(binaries() / "postgres"), "-D", str(server.cluster), "-k", "", "-h", "127.0.0.1", "-p", str(port)]
    with server.log.open("ab") as log:
        process = _Runner.choose(server.folder, server.cluster).spawn(command, log)
    try:
        yield port
    finally:
        server.stop()
        process.wait()


def wait_until_it_answers(url: str) -> None:
    while True:
        with suppress(psycopg.OperationalError):
            psycopg.connect(url).close()
            return


@dataclass
class Hole:
    """Opens a black hole when a child process asks for it, and lets the child go on once nothing arrives any more."""

    network: Network
    reached: Event
    is_open: Event

    def open(self) -> None:
        """In the child: go on without a network. Once only."""
        if not self.is_open.is_set():
            self.reached.set()
            self.is_open.wait()

    def _serve(self) -> None:
        self.reached.wait()
        self.network.swallow()
        self.is_open.set()


@pytest.fixture
def hole(remote: Remote) -> Iterator[Hole]:
    context = multiprocessing.get_context("fork")
    found = Hole(remote.network, context.Event(), context.Event())
    thread = threading.Thread(target=found._serve, daemon=True)
    thread.start()
    yield found
    found.reached.set()
    thread.join()


@pytest.fixture
def project(remote: Remote, tmp_path: Path) -> Settings:
    sources, tasks = {"articles": SourceSettings(retry_seconds=0)}, {"note.shout": TaskSettings(retry_seconds=0)}
    return Settings(root=ROOT, data_dir=tmp_path / "data", database_url=remote.url, sources=sources, tasks=tasks)


def test_a_black_hole_in_the_middle_of_reading_ends_the_load_and_the_next_one_is_whole(
    remote: Remote, hole: Hole, project: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ACTIONS, "hole", hole.open)
    assert_ended_and_then_whole(remote, project)


def test_a_black_hole_before_the_commit_ends_the_load_and_its_locks_and_the_next_one_is_whole(
    remote: Remote, hole: Hole, project: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def merge(*arguments: object, **options: object) -> Sequence[ItemLoad]:
        loads = load_items(*arguments, **options)  # type: ignore[arg-type]  # passed on as they came
        hole.open()  # the lock of the table is held
        return loads

    monkeypatch.setattr(load_run, "load_items", merge)
    monkeypatch.setitem(ACTIONS, "hole", lambda: None)
    assert_ended_and_then_whole(remote, project)


def assert_ended_and_then_whole(remote: Remote, project: Settings) -> None:
    words = {f"{number}.html": "fine" for number in range(4)} | {"4.html": "hole"}
    publish(project, **words)
    [batch_id] = claim(project)
    with pytest.raises(TransientError, match="Connection timed out"):
        load_run.load_batch(project, CONTENT, batch_id, "run-1")
    remote.network.recover()
    release(project, batch_id)
    while batch_ids := claim(project):
        for again in batch_ids:
            load_run.load_batch(project, CONTENT, again, "run-2")
    with psycopg.connect(remote.direct_url) as direct:
        assert rows(direct) == {name: ("loaded", 1, None) for name in words}
        assert direct.execute("SELECT count(*) FROM silver.articles").fetchone() == (len(words),)


def release(project: Settings, batch_id: str) -> None:
    """Do what the sensor's ticks do when the run has ended: release its batch, as soon as the server has dropped the lost worker."""
    while True:
        with suppress(BatchInUseError), db.connect(project, "medallion_silver") as connection:
            Ledger(connection).release_batch(batch_id, project.source("articles"), clock.now(), Ending("died", run_id="run-1"))
            return


def test_a_black_hole_under_a_lease_ends_its_worker_and_the_next_one_does_the_batch(remote: Remote, hole: Hole, project: Settings) -> None:
    def swallowed(items: Sequence[WorkItem], context: TaskContext) -> Iterator[ProcessingResult]:
        hole.open()
        yield from shout(items, context)

    with psycopg.connect(remote.direct_url) as direct:
        direct.execute(CREATE_NOTES)
        put_notes(direct, "hello", "world")
        [batch_id] = runner.plan(project, shout_task()).batch_ids
        with pytest.raises(psycopg.OperationalError, match="Connection timed out"):
            runner.process(project, shout_task(swallowed), batch_id)
        remote.network.recover()
        while len(outputs(direct)) < 2:  # the server may need a moment to drop the lost worker
            expire_leases(direct)
            runner.run(project, shout_task())
        assert {key: output["text"] for key, output in outputs(direct).items()} == {"n0": "HELLO", "n1": "WORLD"}
        outcomes = direct.execute("SELECT task_id FROM silver.tasks_status WHERE event = 'succeeded'").fetchall()
        assert len(outcomes) == len(set(outcomes)) == 2


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def test_a_sensor_that_meets_a_black_hole_says_so_and_its_next_tick_is_right(
    remote: Remote, project: Settings, instance: dg.DagsterInstance
) -> None:
    publish(project, **{"0.html": "fine"})
    remote.network.swallow()
    with pytest.raises(TransientError, match="Postgres does not answer at the address of the login for medallion_silver"):
        tick(silver.defs, "discover_articles", project, instance)
    remote.network.recover()
    requests, _, _ = tick(silver.defs, "discover_articles", project, instance)
    assert len(requests) == 1


def test_the_harness_sees_a_connection_that_does_not_give_up(remote: Remote, project: Settings) -> None:
    outcomes: list[str] = []

    def ask(connection: psycopg.Connection, name: str) -> Callable[[], None]:
        def run() -> None:
            try:
                connection.execute("SELECT 1")
                outcomes.append(f"{name} is answered")
            except psycopg.OperationalError:
                outcomes.append(f"{name} gives up")

        return run

    with psycopg.connect(remote.url, autocommit=True) as plain, db.connect(project, "medallion_silver", autocommit=True) as ours:
        remote.network.swallow()
        threads = [threading.Thread(target=ask(plain, "plain"), daemon=True), threading.Thread(target=ask(ours, "ours"), daemon=True)]
        for thread in threads:
            thread.start()
        threads[1].join()
        assert outcomes == ["ours gives up"]
        remote.network.recover(old_connections=True)
        threads[0].join()
        assert outcomes == ["ours gives up", "plain is answered"]
