"""`medallion tasks …`: the labeling engine from the shell. Arguments in, sentences out; what happens is in `labeling/`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any, get_args
from uuid import UUID

import msgspec
import typer

from medallion_defs.cli.answer import percent, print_json, print_table
from medallion_defs.cli.data import AsJson
from medallion_defs.core import clock
from medallion_defs.core.code_version import CodeVersions
from medallion_defs.core.content import Broken
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings, load_settings
from medallion_defs.labeling import runner
from medallion_defs.labeling.engine import housekeeping as upkeep
from medallion_defs.labeling.engine import leftovers
from medallion_defs.labeling.engine import metrics as figures
from medallion_defs.labeling.engine.plan import PlanReport, RedoExtent, Requeuable
from medallion_defs.labeling.engine.reading import Status, TaskFilter, TaskRow
from medallion_defs.labeling.labels import verdicts
from medallion_defs.labeling.labels.build import refresh_labels
from medallion_defs.labeling.registry import Task, find_task, load_usable_tasks
from medallion_defs.labeling.runner import ConsolidateReport, ProcessReport
from medallion_defs.ops.scope import RunScope, parse_before, parse_scope, require_match
from medallion_defs.stack.databases import database_at_hand

app = typer.Typer(help="Labeling tasks: plan, process, consolidate, and what became of them.", no_args_is_help=True)
verdict_app = typer.Typer(help="What a person says instead of an answer.", no_args_is_help=True)
app.add_typer(verdict_app, name="verdict")

TaskKey = Annotated[str, typer.Option("--task", help="A task, such as video.extract_frames.")]
AnyTask = Annotated[str | None, typer.Option("--task", help="Only this task.")]
Limit = Annotated[int, typer.Option(help="Most rows shown.", min=1)]
Most = Annotated[int | None, typer.Option(help="At most so many tasks; default: all.", min=1)]
TaskId = Annotated[str, typer.Argument(help="A task's id, as 'medallion tasks list' shows it.")]


@app.command()
def plan(
    task: TaskKey,
    limit: Most = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write down what is new, due or changed, and cut it into batches."""
    with _engine(task) as (settings, tasks):
        report = runner.plan(settings, find_task(tasks, task), limit, dry_run=dry_run)
    if as_json:
        print_json(report)
    else:
        typer.echo(f"{'Would plan' if dry_run else 'Planned'}: {_say_plan(report)}")


@app.command()
def process(
    task: TaskKey,
    batch_id: Annotated[int | None, typer.Option("--batch-id", "--batch_id", help="This batch; default: the oldest that is free.")] = None,
    as_json: AsJson = False,
) -> None:
    """Process one batch: call the task's processor, or hand the batch to the model's transport."""
    with _engine(task) as (settings, tasks):
        report = runner.process(settings, find_task(tasks, task), batch_id)
    if as_json:
        print_json(report)
    else:
        typer.echo(_say_process(report))


@app.command()
def consolidate(task: TaskKey, as_json: AsJson = False) -> None:
    """Bring the outcomes of processed batches into todo and results."""
    with _engine(task) as (settings, tasks):
        report = runner.consolidate(settings, find_task(tasks, task))
    if as_json:
        print_json(report)
    else:
        typer.echo(_say_consolidate(report))


@app.command()
def run(task: TaskKey, limit: Most = None, as_json: AsJson = False) -> None:
    """Plan, process every batch that is free, consolidate."""
    with _engine(task) as (settings, tasks):
        report = runner.run(settings, find_task(tasks, task), limit)
    if as_json:
        print_json(report)
        return
    typer.echo(f"Planned: {_say_plan(report.plan)}")
    for processed in report.processed:
        typer.echo(_say_process(processed))
    typer.echo(_say_consolidate(report.consolidated))


@app.command("list")
def list_tasks(
    task: AnyTask = None,
    status: Annotated[list[str] | None, typer.Option(help=f"{', '.join(get_args(Status))}; can be repeated.")] = None,
    error_type: Annotated[str | None, typer.Option(help="Only failures of this type.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only tasks about this subject key.")] = None,
    file_id: Annotated[str | None, typer.Option(help="Only tasks about this bronze item.")] = None,
    limit: Limit = 50,
    as_json: AsJson = False,
) -> None:
    """Show tasks, those that changed last first."""
    statuses = _known_statuses(status or [], get_args(Status))
    which = TaskFilter(task, statuses or None, error_type, subject, _uuid(file_id) if file_id else None)
    with _engine(task) as (settings, _):
        rows = runner.list_tasks(settings, which, limit)
    _show_rows(rows, as_json=as_json)


@app.command()
def dead(task: AnyTask = None, limit: Limit = 50, as_json: AsJson = False) -> None:
    """Show the tasks that failed for good, with their errors; requeue tries them again."""
    with _engine(task) as (settings, _):
        rows = runner.dead(settings, task, limit)
    _show_rows(rows, as_json=as_json)


@app.command()
def show(task_id: TaskId, as_json: AsJson = False) -> None:
    """Show all of the life of one task: state, attempts, result, verdict."""
    with _engine() as (settings, _):
        life = runner.show_task(settings, _uuid(task_id))
    if as_json:
        print_json(life)
        return
    print_table(("", ""), vars(life.row).items())
    if life.events:
        columns = ("event_id", "attempt", "event", "at", "worker", "duration_ms", "cost_usd", "error_type", "error_message")
        print_table(columns, [[event[name] for name in columns] for event in life.events])
    for title, found in (("compacted", life.history), ("result", life.result), ("verdict", life.verdict)):
        if found is not None:
            typer.echo(f"{title}: {msgspec.json.encode(found).decode()}")


@app.command()
def requeue(
    task: AnyTask = None,
    task_id: Annotated[list[str] | None, typer.Option(help="This task; can be repeated.")] = None,
    error_type: Annotated[str | None, typer.Option(help="Only failures of this type.")] = None,
    status: Annotated[list[str] | None, typer.Option(help="dead, retrying or withdrawn; default: dead and retrying.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Of every task.")] = False,
) -> None:
    """Set failed tasks back to pending with all their attempts; the next plan takes them."""
    if not (task or task_id or error_type or everything):
        raise ConfigurationError("Say which: --task, --task-id, --error-type, or --all.")
    statuses = _known_statuses(status or [], get_args(Requeuable)) or ("dead", "retrying")
    with _engine(task) as (settings, _):
        ids = [_uuid(text) for text in task_id] if task_id else None
        count = runner.requeue(settings, task, ids, error_type, statuses)
    typer.echo(f"{count:,} tasks are pending again.")


@app.command()
def backfill(
    task: TaskKey,
    since: Annotated[str | None, typer.Option(help="Only tasks planned at this time or later: 2026-11-01T00:00:00+00:00.")] = None,
    file_id: Annotated[list[str] | None, typer.Option(help="Only tasks about this bronze item; can be repeated.")] = None,
    outdated: Annotated[bool, typer.Option("--outdated", help="Only what other code than the present did last.")] = False,
    before: Annotated[str | None, typer.Option(help="Only what was done before this time; to go on with a backfill that stopped.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say how much that is, and what it may cost; change nothing.")] = False,
) -> None:
    """Do again what succeeded. Old results stay until new ones are there; the next run does the work."""
    chosen = {RunScope.since: bool(since), RunScope.file_ids: bool(file_id), RunScope.outdated: outdated}
    scope = next((scope for scope, is_chosen in chosen.items() if is_chosen), RunScope.all)
    if sum(chosen.values()) > 1:
        raise ConfigurationError("One of --since, --file-id and --outdated at a time.")
    until = parse_before(before, clock.now())
    with _engine(task) as (settings, tasks):
        found = find_task(tasks, task)
        parsed = parse_scope(scope, since, file_id or [], current_code=CodeVersions((), found.code_version))
        if dry_run:
            _say_extent(extent := runner.count_backfill(settings, found, parsed, until))
        else:
            extent = runner.backfill(settings, found, parsed, until)
        if extent.marked:
            typer.echo(runner.explain_marked(settings, found, extent.marked))
    if dry_run:
        return
    require_match(extent.tasks + extent.marked, parsed, f"result of {task}", until if before else None)
    typer.echo(f"{extent.tasks:,} tasks are to be done again. 'medallion tasks run --task {task}' does them, or the sensor.")
    typer.echo(f"If this was stopped, go on with --before {until.isoformat()}")


def _say_extent(extent: RedoExtent) -> None:
    typer.echo(f"{extent.tasks:,} tasks about {extent.bytes:,} bytes would be done again. Nothing was changed.")
    if extent.usd:
        typer.echo(f"The answers they have cost {extent.usd:.4f} USD; new ones are paid as well, at the prices of their day.")


@app.command()
def metrics(hours: Annotated[float, typer.Option(help="Of the last so many hours.", min=0.01)] = 24.0, as_json: AsJson = False) -> None:
    """Show throughput, latency, success and what waits of each task, and its errors by type."""
    with _engine() as (settings, _):
        rows, errors = figures.read_metrics(settings, clock.now() - timedelta(hours=hours)), figures.read_errors(settings)
    if as_json:
        print_json({"tasks": [vars(row) | {"success_rate": row.success_rate} for row in rows], "errors": errors})
        return
    columns = (
        "task_key", "attempts", "succeeded", "failed", "outcomes_per_hour", "p50_ms", "p95_ms", "cost_usd", "pending", "batched",
        "retrying", "dead", "oldest_open_at",
    )  # fmt: skip
    print_table((*columns, "success"), [[*(_rounded(getattr(row, name)) for name in columns), percent(row.success_rate)] for row in rows])
    if errors:
        names = ("task_key", "error_type", "status", "tasks", "last_at", "last_task_id", "last_message")
        print_table(names, [[getattr(error, name) for name in names] for error in errors])


@app.command()
def housekeeping(
    keep_days: Annotated[int, typer.Option(help="Events of batches done longer ago than this are folded into totals.", min=0)] = 30,
    reconcile: Annotated[bool, typer.Option("--reconcile", help="Let the next plan read all subjects again, of every task.")] = False,
    as_json: AsJson = False,
) -> None:
    """Put right what a crash or a hand left behind, and fold old events into totals. Safe at any time."""
    with _engine() as (settings, tasks):
        repaired = upkeep.repair(settings)
        compacted = upkeep.compact(settings, clock.now() - timedelta(days=keep_days))
        for task_key in tasks if reconcile else ():
            upkeep.reconcile(settings, task_key)
    if as_json:
        print_json({"repaired": repaired, "compacted": compacted, "reconciled": list(tasks) if reconcile else []})
        return
    typer.echo(", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in vars(repaired).items()) + " put right")
    typer.echo(f"{compacted.events:,} events of {compacted.batches:,} batches folded into totals")
    if reconcile:
        typer.echo("The next plan of each task reads all of its subjects again.")


@app.command()
def repair(
    purge: Annotated[bool, typer.Option("--purge", help="Remove the rows that are listed, with their events.")] = False,
    as_json: AsJson = False,
) -> None:
    """List tasks that nothing will come of: without a result, and their prompt is retired, or their task or subject is gone."""
    with _engine() as (settings, tasks):
        found = leftovers.find_leftovers(settings, tasks)
        removed = leftovers.purge(settings, found) if purge else None
    listed = leftovers.describe(found)
    if as_json:
        print_json({"left_over": listed, "purged": removed})
        return
    print_table(
        ("task", "why", "tasks", "such as"), [[one.task_key, one.reason, one.tasks, ", ".join(map(str, one.examples))] for one in listed]
    )
    if removed:
        typer.echo(f"{removed.tasks:,} tasks and {removed.events:,} events removed.")
    else:
        typer.echo("Nothing was changed; --purge removes them." if listed else "Nothing is left over.")


@app.command()
def labels(
    everything: Annotated[bool, typer.Option("--all", help="Look at every input of every task, not at what is new.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring gold.media_labels up to date with answers, verdicts, promotions and deleted subjects."""
    with _engine() as (settings, tasks):
        report = refresh_labels(settings, [task.spec for task in tasks.values()], is_full=everything)
    if as_json:
        print_json(report)
        return
    counts = report.counts
    typer.echo(
        f"{counts.checked:,} inputs looked at: {counts.created:,} labels created, {counts.updated:,} updated, {counts.deleted:,} deleted "
        f"({report.seconds:.1f} s)."
    )
    print_table(("task", "source", "labels"), [(key, *pair) for key, by_source in report.labels.items() for pair in by_source.items()])


@verdict_app.command()
def give(
    task_id: TaskId,
    output: Annotated[str, typer.Option(help="The right output, as a JSON object that fits the task.")],
    reason: Annotated[str, typer.Option(help="Why, for those who ask later.")],
    reviewer: Annotated[str, typer.Option(help="Who says so.")],
) -> None:
    """Say what the right output is for the input of a task. It holds over every answer until it is withdrawn."""
    wanted = _uuid(task_id)
    try:
        value = msgspec.json.decode(output, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"--output is no JSON object: {error}.") from error
    with _engine() as (settings, tasks):
        task = find_task(tasks, runner.show_task(settings, wanted).row.task_key)
        verdict_id = verdicts.give_verdict(settings, task, wanted, value, reason, reviewer)
        agreement = verdicts.read_agreement(settings, task.task_key)
    typer.echo(f"Verdict {verdict_id} holds for the input of task {task_id}. Gold follows at the next refresh of gold.media_labels.")
    _show_agreement(agreement)


@verdict_app.command()
def withdraw(verdict_id: Annotated[int, typer.Argument(help="A verdict, as 'medallion tasks show' names it.")]) -> None:
    """Take a verdict back: the answer holds again."""
    with _engine() as (settings, _):
        verdicts.withdraw_verdict(settings, verdict_id)
        agreement = verdicts.read_agreement(settings)
    typer.echo(f"Verdict {verdict_id} holds no more. Gold follows at the next refresh of gold.media_labels.")
    _show_agreement(agreement)


@verdict_app.command()
def agreement(task: AnyTask = None, as_json: AsJson = False) -> None:
    """Show, per task and profile, how often people said what the answer said."""
    with _engine(task) as (settings, _):
        rows = verdicts.read_agreement(settings, task)
    if as_json:
        print_json([vars(row) | {"rate": row.rate} for row in rows])
    else:
        _show_agreement(rows)


@contextmanager
def _engine(task_key: str | None = None) -> Iterator[tuple[Settings, Mapping[str, Task]]]:
    """Yield settings with a database at hand, and the tasks; `task_key`, if any, must be one of them."""
    read = load_settings()
    broken: list[Broken] = []
    tasks = load_usable_tasks(read.tasks, broken)
    if task_key is not None:
        find_task(tasks, task_key, broken)
    with database_at_hand(read) as settings:
        yield settings, tasks


def _say_plan(report: PlanReport) -> str:
    waiting = (
        f"; waiting for a decision: profile {', '.join(report.waiting_profiles)} ('medallion prompts plan')"
        if report.waiting_profiles
        else ""
    )
    batches = f"{len(report.batch_ids):,} batches to process" + (
        f" ({', '.join(map(str, report.batch_ids[:10]))})" if report.batch_ids else ""
    )
    return (
        f"{report.planned:,} new tasks, {report.rearmed:,} tried again by new code, {report.batched:,} put into batches; {batches}{waiting}"
        + (f"\n{report.note}" if report.note else "")
    )


def _say_process(report: ProcessReport) -> str:
    if not report.is_claimed:
        return report.note or (
            "There is no batch to process."
            if report.batch_id is None
            else f"Batch {report.batch_id} is done, or another worker has it; nothing was done."
        )
    events = ", ".join(f"{count:,} {event}" for event, count in report.events.items()) or "no outcome yet"
    return f"Batch {report.batch_id}: {events} in {report.seconds:.1f} s" + (f" ({report.note})" if report.note else "")


def _say_consolidate(report: ConsolidateReport) -> str:
    counts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in vars(report.counts).items())
    return f"Consolidated: {counts}"


def _show_rows(rows: Sequence[TaskRow], *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    columns = ("task_id", "task_key", "subject_key", "status", "attempts", "updated_at", "error_type", "error_message")
    print_table(columns, [[getattr(row, name) for name in columns] for row in rows])


def _show_agreement(rows: Sequence[verdicts.Agreement]) -> None:
    columns = ("task", "profile", "prompt id", "verdicts", "agreement")
    print_table(columns, [(row.task_key, row.profile, row.prompt_id, row.verdicts, percent(row.rate)) for row in rows])


def _known_statuses(words: Sequence[str], known: Sequence[Any]) -> tuple[Any, ...]:
    if wrong := sorted(set(words) - set(known)):
        raise ConfigurationError(f"--status {', '.join(wrong)}: there is {', '.join(known)}.")
    return tuple(status for status in known if status in words)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise ConfigurationError(f"'{text}' is no id. 'medallion tasks list' shows the ids of tasks.") from error


def _rounded(value: object) -> object:
    return round(value, 1) if isinstance(value, float) else value
