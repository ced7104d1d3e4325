"""Log lines: one JSON object a line for machines, a sentence for people, and the stack's reading of both."""

import io
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from medallion_defs.core.logging import HumanFormatter, JsonFormatter, configure_logging, encode_line
from medallion_defs.stack.logs import shorten_errors, tail

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clean_logging() -> Iterator[None]:
    """Leave the package's logger as it was found."""
    logger = logging.getLogger("medallion_defs")
    handlers, level = list(logger.handlers), logger.level
    logger.handlers = []
    yield
    logger.handlers = handlers
    logger.setLevel(level)


def record(message: str, *values: object, **context: str) -> logging.LogRecord:
    made = logging.LogRecord("medallion_defs.silver.discovery", logging.WARNING, "x.py", 1, message, values, None)
    made.created = NOON.timestamp()
    made.__dict__.update(context)
    return made


def test_a_json_line_has_time_level_logger_words_and_context() -> None:
    line = JsonFormatter().format(record("%s is\nrebuilt", "the index", source="companies", run_id="r1"))
    assert "\n" not in line
    assert json.loads(line) == {
        "timestamp": "2026-11-20T12:00:00+00:00",
        "level": "warning",
        "logger": "medallion_defs.silver.discovery",
        "event": "the index is\nrebuilt",
        "run_id": "r1",
        "source": "companies",
    }


def test_a_line_for_people_is_short_and_keeps_the_context() -> None:
    assert HumanFormatter().format(record("rebuilt", source="companies")) == "12:00:00 WARNING silver.discovery: rebuilt (source=companies)"


@pytest.mark.parametrize("formatter", [JsonFormatter(), HumanFormatter()])
def test_a_traceback_is_not_lost(formatter: logging.Formatter) -> None:
    made = record("it failed")
    try:
        raise RuntimeError("disk full")
    except RuntimeError as error:
        made.exc_info = (RuntimeError, error, error.__traceback__)
    assert "RuntimeError: disk full" in formatter.format(made)


@pytest.mark.usefixtures("clean_logging")
def test_a_file_gets_json_and_a_terminal_gets_warnings_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    log = logging.getLogger("medallion_defs.silver.discovery")
    file, terminal = io.StringIO(), Terminal()
    for stream in (file, terminal):
        monkeypatch.setattr("sys.stderr", stream)
        configure_logging()
        configure_logging()  # twice is once
        log.info("all is well")
        log.warning("rebuilt")
    assert [json.loads(line)["event"] for line in file.getvalue().splitlines()] == ["all is well", "rebuilt"]
    assert terminal.getvalue().endswith("WARNING silver.discovery: rebuilt\n")
    assert "all is well" not in terminal.getvalue()


def test_the_stack_shows_errors_of_json_logs_in_words(tmp_path: Path) -> None:
    lines = [
        encode_line(NOON, "info", "dagster.daemon", "no ERROR here"),
        encode_line(NOON, "error", "dagster.daemon", "tick failed", exception="Traceback …\nRuntimeError: disk full"),
        '{"cut',
    ]
    log = tmp_path / "daemon.log"
    log.write_text("\n".join(lines))
    assert tail(log, lines=2) == '2026-11-20T12:00:00+00:00 ERROR tick failed\nTraceback …\nRuntimeError: disk full\n{"cut'
    assert shorten_errors(log.read_text()) == ["2026-11-20T12:00:00+00:00 ERROR tick failed"]
