"""Questions to a running stack: does the web server answer, are the locations loaded, is the daemon alive.

Asked over Dagster's GraphQL, so that an answer means that the UI works too.
"""

import json
import socket
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from medallion_defs.core.errors import TransientError
from medallion_defs.core.http_post import NoAnswerError, post

_SECONDS = 30.0
_MOST_BYTES = 64 * 1024**2
_QUERY = """
{
  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } }
  workspaceOrError {
    ... on Workspace { locationEntries { name loadStatus locationOrLoadError { __typename ... on PythonError { message } } } }
    ... on PythonError { message }
  }
}
"""


@dataclass(frozen=True)
class Health:
    """What is not well yet.

    Attributes:
        loading: locations not loaded so far.
        broken: location → the error with which it failed to load.
        waiting_daemons: required daemons without a heartbeat.
    """

    loading: list[str]
    broken: dict[str, str]
    waiting_daemons: list[str]

    @property
    def is_healthy(self) -> bool:
        return not self.loading and not self.broken and not self.waiting_daemons


def ask_graphql(url: str, query: str, variables: dict[str, object] | None = None) -> dict[str, Any]:
    """Return `data` of the answer to `query` at `url` (…/graphql).

    Raises:
        TransientError: the web server does not answer, or answers with errors.
    """
    body = json.dumps({"query": query, "variables": variables or {}}).encode()
    try:
        said = post(url, body, timeout_seconds=_SECONDS, most_bytes=_MOST_BYTES, is_local=True)
    except NoAnswerError as error:
        raise TransientError(f"The Dagster web server at {url} does not answer: {error}") from error
    try:
        answer = json.loads(said.body)
    except ValueError as error:
        raise TransientError(f"The Dagster web server at {url} answers {said.status}: {said.text[:500]}") from error
    if answer.get("errors"):
        raise TransientError(f"The Dagster web server at {url} refuses: {answer['errors'][0].get('message')}")
    data: dict[str, Any] = answer["data"]
    return data


def read_health(graphql_url: str) -> Health:
    """Return the health of the stack behind `graphql_url`.

    Raises:
        TransientError: the web server does not answer.
    """
    return judge_health(ask_graphql(graphql_url, _QUERY))


def is_guarded(url: str) -> bool:
    """Tell whether the web server at `url` refuses a request under a name that is not its own, as it must.

    Raises:
        TransientError: it does not answer.
    """
    headers = {"Host": "foreign.invalid"}
    try:
        answer = post(f"{url}/server_info", b"", timeout_seconds=_SECONDS, most_bytes=_MOST_BYTES, headers=headers, is_local=True)
    except NoAnswerError as error:
        raise TransientError(f"The Dagster web server at {url} does not answer: {error}") from error
    return answer.status == HTTPStatus.FORBIDDEN


def judge_health(data: dict[str, Any]) -> Health:
    """Turn the answer to the health query into a `Health`."""
    workspace = data["workspaceOrError"]
    if "locationEntries" not in workspace:
        raise TransientError(f"Dagster cannot read its workspace: {workspace.get('message')}")
    entries = {entry["name"]: entry for entry in workspace["locationEntries"]}
    results = {name: entry["locationOrLoadError"] or {} for name, entry in entries.items()}
    return Health(
        loading=[name for name, entry in entries.items() if entry["loadStatus"] != "LOADED"],
        broken={name: result["message"] for name, result in results.items() if result.get("__typename") == "PythonError"},
        waiting_daemons=[
            status["daemonType"]
            for status in data["instance"]["daemonHealth"]["allDaemonStatuses"]
            if status["required"] and not status["healthy"]
        ],
    )


def accepts_connections(path: Path) -> bool:
    """Tell whether a server listens on the unix socket `path`."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
        return True


def is_port_free(port: int) -> bool:
    """Tell whether `port` can be listened on at 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def find_free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port
