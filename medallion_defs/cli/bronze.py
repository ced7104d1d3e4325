"""Commands on the bronze store: `bronze verify` and `bronze reindex`. They need no database."""

from typing import Annotated

import typer

from medallion_defs.bronze.store import BronzeStore, open_store
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import load_settings

app = typer.Typer(help="Check and repair the bronze store.", no_args_is_help=True)
SourceTypes = Annotated[list[str] | None, typer.Argument(help="Source types (folders below data/bronze); all when none is named.")]


@app.command()
def verify(source_types: SourceTypes = None) -> None:
    """Hash every published byte again and compare items with the index; exit code 1 when something is wrong."""
    store, wrong = _open_store(), 0
    for source_type in _chosen(store, source_types):
        for problem in store.verify(source_type):
            wrong += problem.kind != "future"
            typer.echo(f"{problem.kind:10} {problem.path}: {problem.message}\n{'':11}→ {problem.remedy}")
    typer.echo(f"{wrong} problems." if wrong else "Every item is as it was published.")
    if wrong:
        raise typer.Exit(1)


@app.command()
def reindex(source_types: SourceTypes = None) -> None:
    """Rebuild `_index.jsonl` from the item directories."""
    store = _open_store()
    for source_type in _chosen(store, source_types):
        typer.echo(f"{source_type}: {store.reindex(source_type):,} items in the index.")


def _open_store() -> BronzeStore:
    return open_store(load_settings())


def _chosen(store: BronzeStore, source_types: list[str] | None) -> list[str]:
    known = store.source_types()
    unknown = sorted(set(source_types or ()) - set(known))
    if unknown:
        raise ConfigurationError(f"No folder {', '.join(unknown)} in bronze. There is: {', '.join(known) or 'nothing yet'}.")
    return source_types or known
