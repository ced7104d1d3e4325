"""Log files of the stack's processes: their end for a message, their errors for the terminal, a cap on their size.

The lines are JSON, of our code and of Dagster's (`--log-format json`), but for what a process says before it has set that up, and
for Postgres; here they are turned back into words.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

MOST_LOG_BYTES = 20 * 1024**2
_TAIL_BYTES = 64 * 1024
_MOST_LINES = 5
_MOST_CHARACTERS = 300
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ERROR = re.compile(r"\b(ERROR|CRITICAL|FATAL)\b")
_SAID_TWICE = re.compile(r"^(ERROR|CRITICAL):dagster\.")  # the daemon logs each error in two formats


def tail(log: Path, lines: int = 12, start: int = 0) -> str:
    """Return the last `lines` lines of `log`, none from before byte `start`; empty when there is no log."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(start, size - _TAIL_BYTES) if start <= size else 0)
        text = file.read().decode("utf-8", "replace")
    read = [_read_line(line) for line in text.splitlines()[-lines:]]
    return "\n".join(f"{line.words}\n{line.traceback}" if line.traceback else line.words for line in read)


def cap_log(log: Path, most_bytes: int = MOST_LOG_BYTES) -> None:
    """Move the content of a log that has grown too large to `{log}.1`.

    Every writer appends (O_APPEND), so that a file emptied under it goes on at its start.
    """
    if log.exists() and log.stat().st_size > most_bytes:
        log.with_name(log.name + ".1").write_bytes(log.read_bytes())
        with log.open("r+b") as file:
            file.truncate(0)


@dataclass
class ErrorRelay:
    """The error lines that a log gained since the last look."""

    log: Path
    position: int

    @classmethod
    def from_now(cls, log: Path) -> "ErrorRelay":
        return cls(log, log.stat().st_size if log.exists() else 0)

    def read(self) -> list[str]:
        """Return new error lines: at most five, and how many more there were."""
        size = self.log.stat().st_size if self.log.exists() else 0
        if size <= self.position:
            self.position = size
            return []
        with self.log.open("rb") as file:
            file.seek(max(self.position, size - _TAIL_BYTES))
            chunk = file.read()
        complete = chunk[: chunk.rfind(b"\n") + 1]
        self.position = size - (len(chunk) - len(complete))
        return shorten_errors(complete.decode("utf-8", "replace"))


def shorten_errors(text: str) -> list[str]:
    """Return the error lines of `text`, without colour, cut to a terminal's measure."""
    found = [line.words[:_MOST_CHARACTERS] for line in map(_read_line, text.splitlines()) if line.is_error]
    more = len(found) - _MOST_LINES
    return [*found[:_MOST_LINES], f"… and {more} more"] if more > 0 else found


class _Line(NamedTuple):
    """A log line for a person: time, level and words of a JSON line, another as it is, without colour."""

    words: str
    traceback: str
    is_error: bool


def _read_line(line: str) -> _Line:
    try:
        entry = json.loads(line) if line.startswith("{") else None
    except ValueError:  # the end of a line that was cut, or words in braces
        entry = None
    if not isinstance(entry, dict) or "event" not in entry:
        words = _COLOUR.sub("", line)
        return _Line(words, "", bool(_ERROR.search(words)) and not _SAID_TWICE.match(words))
    level = str(entry.get("level", "")).upper()
    return _Line(f"{entry.get('timestamp', '')} {level} {entry['event']}", str(entry.get("exception", "")), bool(_ERROR.search(level)))
