"""Commands that run or examine the stack: `up`, `demo`, `migrate`, `doctor`."""

import logging
import sys
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from medallion_defs.core.settings import load_settings
from medallion_defs.demo.show import Demo
from medallion_defs.stack.databases import database_at_hand
from medallion_defs.stack.doctor import examine
from medallion_defs.stack.health import find_free_port
from medallion_defs.stack.migrate import migrate, write_migration
from medallion_defs.stack.supervisor import Supervisor

Port = Annotated[int, typer.Option(help="Port of the web server on 127.0.0.1; 0 takes a free one.", min=0, max=65535)]


def up(port: Port = 3000) -> None:
    """Start everything: Postgres, migrations, code locations, daemon, web server. Ctrl-C stops everything."""
    # In a service manager or a container, what the stack says is a log as well.
    say = typer.echo if sys.stderr.isatty() else logging.getLogger("medallion_defs.stack.supervisor").info
    Supervisor(load_settings(), port or find_free_port(), say).run()


def demo(
    port: Port = 3000,
    once: Annotated[
        bool, typer.Option("--once", help="Stop everything after the summary; exit code 1 if a count is not as expected.")
    ] = False,
) -> None:
    """Start everything, drop sample files, and show how they flow from bronze through silver to gold."""
    wrong = Demo(load_settings(), Console(highlight=False)).run(port or find_free_port(), once=once)
    if wrong:
        raise typer.Exit(1)


def migrate_database() -> None:
    """Bring the database to the newest schema; starts the embedded Postgres for it if need be."""
    with database_at_hand(load_settings()) as settings:
        typer.echo(f"The schema is at revision {migrate(settings.root, settings.require_database_url())}.")


def new_migration(message: Annotated[str, typer.Argument(help='One sentence, such as "Add silver.weather".')]) -> None:
    """Write the next migration from what the tables in the code have and the database lacks. Read it before you apply it."""
    with database_at_hand(load_settings()) as settings:
        migrate(settings.root, settings.require_database_url())
        path = write_migration(settings.root, settings.require_database_url(), message)
    typer.echo(f"Written: {path.relative_to(settings.root)}. Read it, then run 'medallion migrate'.")


def doctor(
    port: Annotated[int, typer.Option(help="The port that 'medallion up' would use.")] = 3000,
    as_json: Annotated[bool, typer.Option("--json", help="A list of findings for programs.")] = False,
) -> None:
    """Check this machine and the settings; exit code 1 when something would keep Medallion from working."""
    findings = examine(load_settings(), port)
    if as_json:
        typer.echo(msgspec.json.encode(findings).decode())
    else:
        for finding in findings:
            typer.echo(f"{finding.verdict:8} {finding.check}: {finding.detail}" + (f"\n{'':9}→ {finding.remedy}" if finding.remedy else ""))
    if any(finding.verdict == "problem" for finding in findings):
        raise typer.Exit(1)
