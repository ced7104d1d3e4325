"""`medallion genai …`: what was asked of the model, what it cost, what failed, and what to do about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any

import psycopg
import typer
from rich.console import Console
from rich.markdown import Markdown

from medallion_defs.cli.answer import print_json, print_table
from medallion_defs.cli.data import AsJson, open_for_reading
from medallion_defs.core import clock, db
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings, load_settings
from medallion_defs.genai.jobs import JobState
from medallion_defs.genai.report import describe_report
from medallion_defs.genai.requests import RESPONSES_FILE, RESPONSES_PART, outbox_path
from medallion_defs.genai.state import BatchState, GenaiBatch
from medallion_defs.labeling import runner
from medallion_defs.labeling.models import answers
from medallion_defs.labeling.models.dead import list_dead, requeue_dead
from medallion_defs.labeling.registry import load_usable_tasks
from medallion_defs.stack.databases import database_at_hand

app = typer.Typer(help="What was asked of the model, what it cost, and what failed.", no_args_is_help=True)

Limit = Annotated[int, typer.Option(help="Most rows shown.")]
_ASKED_AGAIN = "Its records and dollars are free; they are asked for again at the next run of the task."
BatchId = Annotated[str, typer.Argument(help="A batch, as 'medallion genai batches' names it.")]


@app.command()
def emulator(port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8097) -> None:
    """Serve the local stand-in for the Gemini API until Ctrl-C. Its answers are made up."""
    from medallion_defs.genai.emulator import serve  # a web server, for this one command

    typer.echo(f"The emulator answers on http://127.0.0.1:{port}. Its answers are made up: use it for drills, never for real labels.")
    typer.echo(f"To use it: MEDALLION_GENAI__BASE_URL=http://127.0.0.1:{port} medallion up")
    serve(port)


@app.command()
def batches(
    task: Annotated[str | None, typer.Option(help="Only of this task.")] = None, limit: Limit = 50, as_json: AsJson = False
) -> None:
    """List batches, latest first: how far they are, and what they cost."""
    with database_at_hand(load_settings()) as settings, open_for_reading(settings) as connection:
        rows = BatchState(connection).list_latest(task, limit)
    if as_json:
        print_json(rows)
        return
    columns = ("batch_id", "task_key", "mode", "model", "status", "provider_state", "request_count", "reserved_usd", "settled_usd", "error")
    print_table(columns, [[getattr(row, name) for name in columns] for row in rows])


@app.command()
def costs(limit: Limit = 50, as_json: AsJson = False) -> None:
    """Show what was spent by day, task and model, and what is reserved for answers that are not there yet."""
    with database_at_hand(load_settings()) as settings, open_for_reading(settings) as connection:
        rows = BatchState(connection).cost_by_day(limit)
    if as_json:
        print_json(rows)
        return
    columns = ("day", "task_key", "model", "mode", "batches", "requests", "settled_usd", "reserved_usd")
    print_table(columns, [[getattr(row, name) for name in columns] for row in rows])


@app.command()
def failures(
    batch: Annotated[str | None, typer.Option(help="Only of this batch.")] = None,
    record: Annotated[str | None, typer.Option(help="Only of this record key.")] = None,
    error_type: Annotated[str | None, typer.Option(help="Only of this type: MaxTokens, ValidationError …")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Show the failure log, latest first; --json has the whole answers."""
    with database_at_hand(load_settings()) as settings, open_for_reading(settings) as connection:
        rows = BatchState(connection).read_failure_logs(batch_id=batch, record_key=record, error_type=error_type, limit=limit)
    if as_json:
        print_json(rows)
        return
    columns = ("record_key", "batch_id", "attempt_number", "error_type", "error_message")
    print_table(columns, [[getattr(row, name) for name in columns] for row in rows])


@app.command()
def dead(limit: Limit = 50, as_json: AsJson = False) -> None:
    """List the records that are not asked about any more, with their last error; requeue asks for them again."""
    with database_at_hand(load_settings()) as settings, open_for_reading(settings) as connection:
        rows = list_dead(connection, _model_tasks(), settings.genai.max_retries, limit)
    if as_json:
        print_json(rows)
        return
    columns = ("record_key", "task_key", "count", "error_type", "error_message", "last_updated")
    print_table(columns, [[getattr(row, name) for name in columns] for row in rows])


@app.command()
def requeue(
    record: Annotated[list[str] | None, typer.Argument(help="Record keys.")] = None,
    all_dead: Annotated[bool, typer.Option("--all", help="All dead records.")] = False,
) -> None:
    """Forget the failures of dead records and ask for them again."""
    if bool(record) == all_dead:
        raise ConfigurationError("Name records, or say --all.")
    with database_at_hand(load_settings()) as settings, db.connect(settings, "medallion_gold") as connection:
        found = list_dead(connection, _model_tasks(), settings.genai.max_retries)
        wanted = [row for row in found if all_dead or row.record_key in (record or ())]
        requeue_dead(connection, wanted)
    typer.echo(f"{len(wanted)} records are asked for again at the next run of their tasks.")
    if missing := sorted(set(record or ()) - {row.record_key for row in wanted}):
        raise ConfigurationError(f"Not among the dead: {', '.join(missing)}. 'medallion genai dead' lists them.")


def _model_tasks() -> list[str]:
    return [task_key for task_key, task in load_usable_tasks().items() if task.spec.model is not None]


@app.command()
def reparse(
    batch: Annotated[list[str] | None, typer.Argument(help="Batches.")] = None,
    task: Annotated[str | None, typer.Option(help="All batches of this task.")] = None,
) -> None:
    """Parse answers again that are in bronze, after a change of a task's output model. Nothing is asked, nothing is paid."""
    if bool(batch) == bool(task):
        raise ConfigurationError("Name batches, or a task with --task.")
    with database_at_hand(load_settings()) as settings:
        with open_for_reading(settings) as connection:
            wanted = batch or BatchState(connection).read_parsed_batches(str(task))
        counts = answers.reparse(settings, load_usable_tasks(), wanted, runner.worker_name())
    for batch_id, count in counts.items():
        typer.echo(f"{batch_id}: {count} answers given to their tasks")


@app.command()
def cancel(batch_id: BatchId) -> None:
    """Give up a batch: its job is cancelled at the provider, its records and dollars are free, its tasks are asked again."""
    with _alone_at(batch_id) as (settings, connection, batch):
        typer.echo(f"{batch_id} {_cancel(settings, connection, batch)}")


@app.command()
def resume(
    batch_id: BatchId,
    as_is: Annotated[bool, typer.Option("--as-is", help="Take the file of answers as it came, though it is not as announced.")] = False,
) -> None:
    """Look again for the answers of a batch that is held."""
    with _alone_at(batch_id) as (settings, connection, batch):
        if batch.status != "held":
            raise ConfigurationError(f"Batch {batch_id} is {batch.status}; one that is held can be resumed.")
        if as_is:
            _take_as_is(settings, batch)
        BatchState(connection).resume(batch_id, "ended" if as_is else "active", clock.now())
    typer.echo(f"{batch_id} is looked at again at the next tick of the sensor poll_gemini.")


@contextmanager
def _alone_at(batch_id: str) -> Iterator[tuple[Settings, psycopg.Connection[Any], GenaiBatch]]:
    with database_at_hand(load_settings()) as settings, db.connect(settings, "medallion_gold", autocommit=True) as connection:
        state = BatchState(connection)
        with state.alone(batch_id) as is_alone:
            batch = state.read(batch_id)
            if batch is None:
                raise ConfigurationError(f"There is no batch {batch_id}. 'medallion genai batches' lists them.")
            if not is_alone:
                raise ConfigurationError(f"A run is at batch {batch_id} just now. Try again when it is done.")
            yield settings, connection, batch


def _take_as_is(settings: Settings, batch: GenaiBatch) -> None:
    part = outbox_path(settings.data_path, batch.batch_id).with_name(RESPONSES_PART)
    if not part.exists():
        raise ConfigurationError(f"There is no downloaded file of answers of batch {batch.batch_id} ({part}).")
    part.rename(part.with_name(RESPONSES_FILE))


def _cancel(settings: Settings, connection: psycopg.Connection[Any], batch: GenaiBatch) -> str:
    if batch.status not in ("reserved", "submitting", "active", "ended", "held"):
        raise ConfigurationError(f"Batch {batch.batch_id} is {batch.status}; one whose answers are not in bronze can be cancelled.")
    if batch.status in ("ended", "held") or (batch.status == "reserved" and not batch.submit_attempts):
        return _give_up(connection, batch.batch_id, f"given up by a person; {batch.error or 'it was ' + batch.status}")
    if batch.mode == "online":
        kept_file = RESPONSES_FILE if outbox_path(settings.data_path, batch.batch_id).with_name(RESPONSES_FILE).exists() else None
        BatchState(connection).mark_ended(batch.batch_id, "CANCELLED", kept_file, "cancelled by a person", clock.now())
        return "is ended with the answers it has. They are collected as usual; the other records are asked for again."
    return _cancel_job(settings, connection, batch)


def _cancel_job(settings: Settings, connection: psycopg.Connection[Any], batch: GenaiBatch) -> str:
    from medallion_defs.genai.client import BusyError, RefusedError, UnknownOutcomeError, gemini_client  # half a second of imports

    try:
        with gemini_client(settings.genai) as client:
            names = [batch.provider_name] if batch.provider_name else client.find(batch.display_name, batch.input_file)
            for name in names:
                client.cancel_unless_over(name)
            job = client.read_job(names[0]) if names else None
    except (BusyError, RefusedError, UnknownOutcomeError) as error:
        answers.give_up(connection, batch, f"given up by a person while the provider failed: {error}")
        return (
            f"is given up, though the provider did not take the cancelling: {error}. If the job ({batch.display_name}) runs all the "
            f"same, the provider bills it. {_ASKED_AGAIN}"
        )
    if job is None:
        _require_shown(settings, batch)
        answers.give_up(connection, batch, "given up by a person; the provider had no job of it")
        return f"is given up: the provider has no job of it. {_ASKED_AGAIN}"
    return _after_cancelling(connection, batch, names[0], job)


def _after_cancelling(connection: psycopg.Connection[Any], batch: GenaiBatch, name: str, job: JobState) -> str:
    state, now = BatchState(connection), clock.now()
    if batch.status == "submitting":
        state.mark_active(batch.batch_id, name, now, now)
    if not job.is_over:
        state.hurry(batch.batch_id, now)
        return "is being cancelled by the provider. What comes of it is collected as usual; in an hour it is given up all the same."
    state.mark_ended(batch.batch_id, job.state, job.output_file, job.error, now)
    if job.output_file is not None:
        return f"had ended {job.state} already. Its answers are collected as usual."
    return _give_up(connection, batch.batch_id, f"cancelled by a person ({name})")


def _give_up(connection: psycopg.Connection[Any], batch_id: str, why: str) -> str:
    batch = BatchState(connection).read(batch_id)
    assert batch is not None, "it is held by this session"
    spent = answers.give_up(connection, batch, why)
    kept = f" Its job ended {batch.provider_state}, so its {spent:.4f} USD count as spent." if spent else ""
    return f"is given up.{kept} {_ASKED_AGAIN}"


def _require_shown(settings: Settings, batch: GenaiBatch) -> None:
    look_until = (batch.submitted_at or batch.created_at) + timedelta(seconds=settings.genai.adopt_seconds)
    if clock.now() < look_until:
        raise ConfigurationError(f"The provider may not show the job of {batch.batch_id} yet. Try again after {look_until:%H:%M:%S} UTC.")


@app.command()
def report(batch_id: BatchId, as_json: AsJson = False) -> None:
    """Show the Batch Summary Report of a batch whose answers are in bronze."""
    with database_at_hand(load_settings()) as settings:
        found = answers.report_batch(settings, load_usable_tasks(), batch_id)
    if as_json:
        print_json(found)
    else:
        Console().print(Markdown(describe_report(found)))
