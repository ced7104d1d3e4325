"""Log lines of our own processes: JSON where standard error is a file or a pipe, for people where it is a terminal.

Modules use the standard library: `logging.getLogger(__name__)`, and `extra={"run_id": …, "batch_id": …, "source": …}` for what they
know. Only entry points call `configure_logging`: the command line, and the code locations (`ops/base.py`). The keys are those of
Dagster's own JSON lines, so that one log file has one vocabulary. What a step or a tick wants people to read on the page it says to
Dagster's `context.log`, not here.
"""

import json
import logging
import sys
from datetime import UTC, datetime

PACKAGE = "medallion_defs"
CONTEXT = ("run_id", "batch_id", "source")
_HANDLER = "medallion"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `timestamp`, `level`, `logger`, `event`, the context, and `exception` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        exception = {"exception": self.formatException(record.exc_info)} if record.exc_info else {}
        at = datetime.fromtimestamp(record.created, UTC)
        return encode_line(at, record.levelname, record.name, record.getMessage(), **_context(record), **exception)


class HumanFormatter(logging.Formatter):
    """`12:00:01 WARNING silver.discovery: what happened (source=companies)`, and the traceback below where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        known = ", ".join(f"{name}={value}" for name, value in _context(record).items())
        at = datetime.fromtimestamp(record.created, UTC)
        line = f"{at:%H:%M:%S} {record.levelname} {record.name.removeprefix(f'{PACKAGE}.')}: {record.getMessage()}"
        line += f" ({known})" if known else ""
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure_logging() -> None:
    """Send what the package logs to standard error as it is now; a second call only takes the new standard error.

    A terminal gets warnings only: there the command's own words say the rest.
    """
    logger = logging.getLogger(PACKAGE)
    is_terminal = sys.stderr.isatty()
    handler = next((one for one in logger.handlers if one.get_name() == _HANDLER), None)
    if not isinstance(handler, logging.StreamHandler):
        handler = logging.StreamHandler(sys.stderr)
        handler.set_name(_HANDLER)
        logger.addHandler(handler)
    handler.setStream(sys.stderr)
    handler.setFormatter(HumanFormatter() if is_terminal else JsonFormatter())
    logger.setLevel(logging.WARNING if is_terminal else logging.INFO)


def encode_line(at: datetime, level: str, logger: str, event: str, **more: str) -> str:
    """Return one JSON log line, without its end of line."""
    line = {"timestamp": at.isoformat(), "level": level.lower(), "logger": logger, "event": event, **more}
    return json.dumps(line, ensure_ascii=False)


def _context(record: logging.LogRecord) -> dict[str, str]:
    return {name: str(record.__dict__[name]) for name in CONTEXT if record.__dict__.get(name) is not None}
