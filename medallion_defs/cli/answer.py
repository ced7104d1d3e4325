"""How a command answers: JSON for a program, a plain table for a person. Knows nothing of what is shown."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table


def print_json(value: Any) -> None:
    """Print a value of any type that msgspec knows, dataclasses included, as one line of JSON."""
    typer.echo(msgspec.json.encode(value).decode())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their columns; None is an empty cell."""
    table = Table(box=None, header_style="bold")
    for name in columns:
        table.add_column(name.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(
            *("" if value is None else escape(f"{value:%Y-%m-%d %H:%M:%S}" if hasattr(value, "hour") else str(value)) for value in row)
        )
    Console().print(table)


def percent(share: float | None) -> str:
    """Return a share as a percentage to one decimal; a dash when there is none."""
    return "–" if share is None else f"{share:.1%}"
