"""What the processes of a measurement used: processor time and memory. Linux only. Knows nothing of what is measured.

A load runs in a fork of the process that watches it, so both are asked for: a figure of the parent alone says nothing of the work.
"""

import os
import resource
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds() -> float:
    """Return the processor seconds, user and system, of this process and of the children that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def own_peak_mb() -> float:
    """Return this process's peak memory. Not by getrusage: its figure survives exec, and would be the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (peak_kb,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    return int(peak_kb) / 1024


def largest_child_mb() -> float:
    """Return the peak memory of the largest child that this process has waited for. A fork's counts what it shares with its parent."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


def server_seconds(postmaster: int) -> float:
    """Return the processor seconds of a Postgres server: its live processes, and those that have ended."""
    return sum(_seconds_of(pid, postmaster) for pid in _pids()) / _TICKS


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _seconds_of(pid: int, postmaster: int) -> int:
    """Return a process's clock ticks; of the postmaster with its ended children's, of one that is not the server's none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
    except (FileNotFoundError, ProcessLookupError):  # it has just ended; the postmaster's figure has it soon
        return 0
    parent, (user, system, children_user, children_system) = int(fields[1]), map(int, fields[11:15])
    if pid == postmaster:
        return user + system + children_user + children_system
    return user + system if parent == postmaster else 0
