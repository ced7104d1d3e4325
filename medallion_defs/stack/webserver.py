"""Dagster's web server with the guard in front of it: `python -m medallion_defs.stack.webserver`, options as `dagster-webserver`.

The only module that changes something of Dagster's. Dagster has no setting for middleware, and the class that makes the
server is named in one place, `dagster_webserver.app`: that name is set to a subclass whose `build_middleware` has the guard.
A Dagster in which this no longer holds must not run unguarded: the name must be there, and `medallion up` asks the running
server under a foreign name before it says that it is up (`health.py`).

Runs in a process of its own: the supervisor never imports Dagster.
"""

from collections.abc import Callable
from typing import Any

from dagster_webserver import app, cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import get_settings
from medallion_defs.stack.guard import Guard


class GuardedWebserver(DagsterWebserver[Any, Any]):
    """Dagster's web server; every request passes the guard first."""

    def build_middleware(self) -> list[Middleware]:
        return [Middleware(Guard, hosts=get_settings().web.hosts), *super().build_middleware()]


def main() -> None:
    """Run the web server until it is stopped."""
    if vars(app).get("DagsterWebserver") is not DagsterWebserver:
        raise ConfigurationError("This Dagster makes its web server in another way; install the versions of requirements.lock.")
    vars(app)["DagsterWebserver"] = GuardedWebserver
    run: Callable[[], None] = cli.main
    run()


if __name__ == "__main__":
    main()
