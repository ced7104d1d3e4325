"""What the tests of the web page stand on: the guarded web server alone, without a stack, and a server of a foreign page."""

import contextlib
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dagster as dg

from medallion_defs.core.errors import TransientError
from medallion_defs.stack.dagster_home import WEBSERVER
from medallion_defs.stack.health import ask_graphql, find_free_port, is_guarded
from tests.conftest import ROOT

SECONDS = 120.0


@dataclass(frozen=True)
class WebServer:
    """A web server that `medallion up` would start, on a Dagster of its own (SQLite, no code locations)."""

    port: int
    home: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def limits(self) -> dict[str, int]:
        """The pools with a limit, as the database of Dagster has them: what the tests try to change."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            storage = instance.event_log_storage
            return {key: storage.get_concurrency_info(key).slot_count for key in storage.get_concurrency_keys()}

    def assets(self) -> list[str]:
        """Every asset that an event was reported of."""
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            return [key.to_user_string() for key in instance.all_asset_keys()]


@contextlib.contextmanager
def running_webserver(home: Path, hosts: tuple[str, ...] = ()) -> Iterator[WebServer]:
    home.mkdir(parents=True, exist_ok=True)
    (home / "workspace.yaml").write_text("load_from: []\n")
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    server = WebServer(find_free_port(), home)
    environment = {**os.environ, "DAGSTER_HOME": str(home), "MEDALLION_ROOT": str(ROOT), "MEDALLION_WEB__HOSTS": json.dumps(hosts)}
    command = [*WEBSERVER, "-h", "127.0.0.1", "-p", str(server.port), "-w", str(home / "workspace.yaml")]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
    try:
        await_webserver(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(30)


def await_webserver(server: WebServer, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + SECONDS
    while True:
        assert process.poll() is None, (server.home / "log").read_text()
        with contextlib.suppress(TransientError):
            ask_graphql(f"{server.url}/graphql", "{ version }")
            assert is_guarded(server.url)
            return
        assert time.monotonic() < deadline, (server.home / "log").read_text()
        time.sleep(0.1)


@dataclass
class ForeignSite:
    """A site on another port: what it serves, and every request that reached it."""

    port: int
    pages: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@contextlib.contextmanager
def foreign_site() -> Iterator[ForeignSite]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.requests.append(self.path)
            body = site.pages.get(self.path, "").encode()
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    site = ForeignSite(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
