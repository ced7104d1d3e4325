"""The command `medallion`: arguments in, sentences and exit codes out. What a command does lives in the layer it belongs to."""

import signal
import sys

import typer

from medallion_defs.cli import alerts, backfill, bronze, data, forget, genai, impact, ops, prompts, retention, stack, tasks, variants
from medallion_defs.core.errors import MedallionError
from medallion_defs.core.logging import configure_logging

app = typer.Typer(
    name="medallion", help="Raw files in, clean and enriched tables out.", no_args_is_help=True, pretty_exceptions_enable=False
)
app.command("up")(stack.up)
app.command("demo")(stack.demo)
app.command("migrate")(stack.migrate_database)
app.command("new-migration")(stack.new_migration)
app.command("doctor")(stack.doctor)
app.command("fetch")(data.fetch)
app.command("status")(data.status)
app.command("trace")(data.trace)
app.command("requeue")(data.requeue)
app.command("backfill")(backfill.backfill)
app.command("impact")(impact.impact)
app.command("retention")(retention.retention)
app.command("forget")(forget.forget)
app.command("withdraw")(forget.withdraw)
app.command("manifest")(ops.manifest)
app.add_typer(bronze.app, name="bronze")
app.add_typer(ops.app, name="ops")
app.add_typer(tasks.app, name="tasks")
app.add_typer(prompts.app, name="prompts")
app.add_typer(genai.app, name="genai")
app.add_typer(variants.app, name="variants")
app.add_typer(alerts.app, name="alerts")


def main() -> None:
    """Run the command line; a known failure is one sentence on stderr and exit code 1."""
    configure_logging()
    # As Ctrl-C: what a command is at is given back before it ends. 'medallion up' has handlers of its own.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except MedallionError as error:
        typer.echo(f"medallion: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
