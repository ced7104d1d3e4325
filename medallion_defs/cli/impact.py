"""`medallion impact`: what a bad file has done, and what to do about it. What that is, `ops/impact.py` knows."""

from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer
from rich.markup import escape
from rich.tree import Tree

from medallion_defs.cli.answer import print_rich
from medallion_defs.cli.data import AsJson, gold_specs, label_specs, open_for_reading, silver_specs
from medallion_defs.core.settings import load_settings
from medallion_defs.ops.impact import Impact, find_impact
from medallion_defs.stack.databases import database_at_hand
from medallion_defs.storage.readers import open_reader


def impact(what: Annotated[str, typer.Argument(help="A bronze item: its path or its file id.")], as_json: AsJson = False) -> None:
    """Show what must be redone or recalled when a file is bad: its silver rows, the gold rows made of them, and the next steps."""
    with database_at_hand(load_settings()) as settings, open_for_reading(settings) as connection:
        gold = gold_specs() | label_specs()
        found = find_impact(connection, what, silver_specs().values(), gold.values(), open_reader(settings))
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    print_rich(show(found))
    # Not through rich: a step must come out as it is typed, and not folded.
    for step in found.next:
        typer.echo(f"  {step}")


def show(found: Impact) -> Tree:
    """Return the tree of what is touched; the steps are printed below it."""
    tree = Tree(f"[bold]{escape(found.item.bronze_path or found.item.external_id)}[/bold] {found.item.file_id} {found.item.status}")
    for title, lines in _branches(found):
        branch = tree.add(title)
        for line in lines:
            branch.add(escape(line))
    tree.add("next")
    return tree


def _branches(found: Impact) -> Iterator[tuple[str, list[str]]]:
    silver = [f"{rows.table}: {rows.rows:,}, such as {', '.join(rows.examples)}" for rows in found.silver]
    yield ("silver rows that it supplies now" if silver else "supplies no silver row now"), silver
    gold = [f"{rows.table}: {rows.rows:,} by its {rows.role} rows, such as {', '.join(rows.examples)}" for rows in found.gold]
    yield ("gold rows made of it, to redo or recall" if gold else "no gold row is made of it"), gold
    if found.rejects:
        yield "records rejected", [f"{code}: {number:,}" for code, number in found.rejects.items()]
    if found.last_load.read is not None:
        load = found.last_load
        yield (
            f"its last load ({load.run_id})",
            [
                f"{load.read:,} records; {load.updated:,} replaced other values in silver, {load.created:,} were new there, "
                f"{load.unchanged:,} were there already",
            ],
        )
    at_least = "" if found.older.is_exact else "at least "
    yield (
        "what may take over",
        [
            f"{at_least}{found.older.items:,} loaded files are older, {at_least}{found.older.same_dataset:,} of the same dataset, "
            f"{len(found.older.revisions):,} earlier revisions of this one"
        ],
    )
    if found.newer:
        yield "later revisions", list(found.newer)
    if found.unknown:
        yield "not known", list(found.unknown)
