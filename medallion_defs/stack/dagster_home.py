"""Dagster's home folder and commands, and the pass at boot over runs that a killed host left open.

`python -m medallion_defs.stack.dagster_home` makes that pass, in a process of its own so that the supervisor never
imports Dagster: 70 MB and two seconds that it needs once.
"""

import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from medallion_defs.core.settings import Settings

LOCATIONS = ("bronze", "silver", "gold")
JSON_LOGS = ("--log-format", "json")
"""Of every Dagster process: its log file has one JSON object a line, with the keys of `core/logging.py`."""

WEBSERVER = (sys.executable, "-m", "medallion_defs.stack.webserver")
"""The command of the guarded web server; its options are those of `dagster-webserver`."""

_LEFT_OPEN = "The host stopped while this run was in progress; closed by the next start of Medallion. Its work will be done by another run."


def home_folder(data_path: Path) -> Path:
    return data_path / "dagster"


def prepare_home(settings: Settings) -> None:
    """Make DAGSTER_HOME under the data folder, with a link to the project's dagster.yaml."""
    home = home_folder(settings.data_path)
    (home / "logs").mkdir(parents=True, exist_ok=True)
    link = home / "dagster.yaml"
    target = (settings.root / "dagster.yaml").resolve()
    if not link.is_symlink() or link.readlink() != target:
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        link.symlink_to(target)


def write_workspace(path: Path, sockets: Mapping[str, Path]) -> None:
    """Write the workspace file that points the daemon and the web server at the running code servers."""
    entries = [{"grpc_server": {"socket": str(socket), "location_name": name}} for name, socket in sockets.items()]
    path.write_text(yaml.safe_dump({"load_from": entries}, sort_keys=False), encoding="utf-8")


def code_server_command(scripts: Path, location: str, socket: Path, root: Path) -> Sequence[str]:
    """Return the command of the code server of one location."""
    module = f"medallion_defs.locations.{location}"
    where = ["--socket", str(socket), "--location-name", location, "-m", module, "-d", str(root)]
    return [str(scripts / "dagster"), "api", "grpc", *where, *JSON_LOGS]


def close_left_runs() -> int:
    """Report the runs that no process works on any more as failed or canceled; return how many.

    Only for a moment at which nothing of the stack runs. Without it they stay STARTED for ever: the run launcher
    cannot tell a lost worker from a slow one.
    """
    from dagster import DagsterInstance, DagsterRunStatus, RunsFilter

    working = [DagsterRunStatus.STARTING, DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]
    with DagsterInstance.get() as instance:
        runs = instance.get_runs(RunsFilter(statuses=working))
        for run in runs:
            if run.status == DagsterRunStatus.CANCELING:
                instance.report_run_canceled(run, message=_LEFT_OPEN)
            else:
                instance.report_run_failed(run, message=_LEFT_OPEN)
    return len(runs)


if __name__ == "__main__":
    sys.stdout.write(f"{close_left_runs()}\n")
