"""How a command answers: JSON for a program, a plain table for a person. Knows nothing of what is shown."""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import typer
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

_WIDEST = 10_000
_PAIR = 2
_PROSE = ("message", "error", "comment", "reason")
_PROSE_WIDTH = 30


def print_json(value: Any) -> None:
    """Print a value of any type that msgspec knows, dataclasses included, as one line of JSON."""
    typer.echo(msgspec.json.encode(value).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their columns; None is an empty cell.

    On a terminal, columns without a value are left out, and rows that are too wide for it become a block of lines each: what other
    commands ask for (`batch_id`, `record_key`) is always there in one piece. Into a file or a pipe a row is a line.
    """
    console = Console()
    cells = [[_cell(value) for value in row] for row in rows]
    if console.is_terminal and len(columns) > _PAIR:
        columns, cells = _without_empty(columns, cells)
        if _width(columns, cells) > console.width:
            for row in cells:
                console.print(_table(("", ""), list(zip(columns, row, strict=True))), "")
            return
    if not console.is_terminal:
        cells = [[" ".join(cell.splitlines()) for cell in row] for row in cells]
    print_rich(_table(columns, cells))


def _table(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, header_style="bold", show_header=any(columns))
    for name in columns:
        table.add_column(name.replace("_", " "), overflow="fold", no_wrap=len(columns) > _PAIR and not name.endswith(_PROSE))
    for row in cells:
        table.add_row(*map(escape, row))
    return table


def _without_empty(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    kept = [place for place in range(len(columns)) if not cells or any(row[place] for row in cells)]
    return [columns[place] for place in kept], [[row[place] for place in kept] for row in cells]


def _width(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    """Return the columns that a terminal needs for a row a line; prose may fold, down to a readable width."""
    widest = [max(len(name), *(cell_len(row[place]) for row in cells), 0) for place, name in enumerate(columns)]
    return sum(2 + (min(width, _PROSE_WIDTH) if name.endswith(_PROSE) else width) for name, width in zip(columns, widest, strict=True))


def print_rich(shown: RenderableType) -> None:
    """Print tables and trees: as wide as the terminal is, or, into a file or a pipe, as wide as they are, so that a row is a line."""
    console = Console()
    if not console.is_terminal:
        needed = Measurement.get(console, console.options.update(max_width=_WIDEST), shown).maximum
        console = Console(width=max(console.width, needed))
    console.print(shown)


def percent(share: float | None) -> str:
    """Return a share as a percentage to one decimal; a dash when there is none."""
    return "–" if share is None else f"{share:.1%}"


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return f"{value:%Y-%m-%d %H:%M:%S}" if hasattr(value, "hour") else str(value)
