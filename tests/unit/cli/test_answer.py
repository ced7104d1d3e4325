"""Tables of the command line: an id that another command asks for is always there in one piece."""

import re
from decimal import Decimal

import pytest

from medallion_defs.cli.answer import print_table

ID = "page.curricular-6-bd203263"
COLUMNS = ("batch_id", "model", "settled_usd", "provider_state", "error")
ROWS = [(ID, "gemini-2.5-flash", Decimal("0.0146784500"), "SUCCEEDED", None)]


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm")
    return monkeypatch


def test_into_a_pipe_a_row_is_a_line_however_wide(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table(COLUMNS, [(*ROWS[0][:4], "word " * 30 + "\n" + "word " * 30)])
    header, row = shown(capsys)
    assert header.split() == ["batch", "id", "model", "settled", "usd", "provider", "state", "error"]
    assert row.split()[:4] == [ID, "gemini-2.5-flash", "0.01467845", "SUCCEEDED"]


def test_rows_too_wide_for_a_terminal_become_blocks_with_whole_ids(
    terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal.setenv("COLUMNS", "60")
    print_table(COLUMNS, ROWS)
    lines = shown(capsys)
    assert lines[0].split() == ["batch_id", ID]
    assert "settled_usd" in lines[2]
    assert not any("error" in line for line in lines), "a column without a value is left out"


def test_wide_characters_are_measured_as_they_are_shown(terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.setenv("COLUMNS", "60")
    key = "学校" * 10
    print_table(("subject_key", "status", "attempts"), [(key, "succeeded", 1)])
    assert any(key in line for line in shown(capsys)), "in one piece"


def test_prose_folds_before_a_row_becomes_a_block(terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.setenv("COLUMNS", "75")
    print_table(("batch_id", "error"), [(ID, "x")])
    print_table(("batch_id", "model", "error"), [(ID, "m", "so many words that they do not fit into what is left of the line")])
    lines = shown(capsys)
    assert lines[0].split() == ["batch", "id", "error"]
    assert lines[3].split()[:2] == [ID, "m"]
    assert len(lines) == 5


def test_no_rows_show_the_columns_alone(terminal: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.setenv("COLUMNS", "200")
    print_table(COLUMNS, [])
    assert shown(capsys)[0].split()[0] == "batch"
