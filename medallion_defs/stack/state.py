"""What a running stack tells others: a small file in DAGSTER_HOME, replaced at every change.

It names processes and addresses, no secrets. The lock, not this file, says whether a stack runs.
"""

from pathlib import Path
from typing import Literal

import msgspec

STATE_NAME = "stack.json"


class StackState(msgspec.Struct, frozen=True):
    """A moment of a stack.

    Attributes:
        pid: the supervisor.
        url: address of the Dagster UI.
        phase: "running" when everything was healthy once.
        children: process by name; a process between two starts is absent.
        restarts: how often each was restarted.
        postgres_pid: the embedded server's postmaster, None with an external server.
    """

    pid: int
    url: str
    phase: Literal["starting", "running", "stopping"]
    children: dict[str, int]
    restarts: dict[str, int]
    postgres_pid: int | None


def write_state(home: Path, state: StackState) -> None:
    """Replace the state file."""
    temporary = home / f"{STATE_NAME}.new"
    temporary.write_bytes(msgspec.json.encode(state))
    temporary.replace(home / STATE_NAME)


def read_state(home: Path) -> StackState | None:
    """Return the last state written, None when there never was one."""
    try:
        return msgspec.json.decode((home / STATE_NAME).read_bytes(), type=StackState)
    except FileNotFoundError:
        return None
