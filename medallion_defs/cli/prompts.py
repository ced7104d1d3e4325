"""`medallion prompts …`: the profiles that tasks are asked with. Arguments in, sentences out; decisions are in `labeling/promotion.py`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated

import typer

from medallion_defs.cli.answer import percent, print_json, print_table
from medallion_defs.cli.data import AsJson, open_for_reading
from medallion_defs.core.content import Broken
from medallion_defs.core.settings import Settings, load_settings
from medallion_defs.labeling.engine import promotion
from medallion_defs.labeling.engine.promotion import StoredProfile, find_profile, list_profiles, read_stored
from medallion_defs.labeling.models import estimate as estimates
from medallion_defs.labeling.models.compare import EXAMPLES, Comparison, Side, compare_profiles
from medallion_defs.labeling.prompts import COSMETIC, SEMANTIC, PromptProfile, diff_profiles
from medallion_defs.labeling.registry import Task, find_task, load_usable_tasks
from medallion_defs.stack.databases import database_at_hand

app = typer.Typer(help="The prompt profiles of tasks: which there are, what a change costs, which is in use.", no_args_is_help=True)

TaskKey = Annotated[str, typer.Argument(metavar="TASK", help="A task, such as text.summarize.")]
Profile = Annotated[str, typer.Argument(metavar="PROFILE", help="A profile's name, its id, or the beginning of its id.")]
MaybeProfile = Annotated[str | None, typer.Argument(metavar="PROFILE", help="Default: the one in prompt.json.")]


@app.command("list")
def list_all(task: Annotated[str | None, typer.Option("--task", help="Only of this task.")] = None, as_json: AsJson = False) -> None:
    """Show the profiles of every task: in use, tried beside it, retired, or waiting for a decision."""
    with _tasks(task) as (settings, tasks):
        lines = list_profiles(settings, [tasks[task]] if task else tasks.values(), task)
    if as_json:
        print_json(lines)
        return
    columns = ("task_key", "profile", "version", "prompt_id", "model", "state", "is_in_folder", "answered", "open", "dead", "cost_usd")
    print_table(columns, [[getattr(line, name) for name in columns] for line in lines])


@app.command()
def show(task: TaskKey, profile: MaybeProfile = None, as_json: AsJson = False) -> None:
    """Show one profile whole."""
    with _tasks(task) as (settings, tasks):
        found = _find(settings, tasks[task], profile)
    if as_json:
        print_json(found.model_dump(mode="json") | {"prompt_id": found.prompt_id})
        return
    typer.echo(f"{found.task_key} '{found.profile}', prompt id {found.prompt_id}")
    for title, names in (("part of the id", SEMANTIC), ("not part of the id", COSMETIC)):
        typer.echo(f"\n{title}:")
        for name in names:
            if getattr(found, name):
                typer.echo(f"  {name}: {_text(getattr(found, name))}")


@app.command()
def diff(
    task: TaskKey,
    one: Annotated[str | None, typer.Argument(metavar="ONE", help="Default: the primary.")] = None,
    other: Annotated[str | None, typer.Argument(metavar="OTHER", help="Default: the one in prompt.json.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show in what two profiles differ, and whether that asks about anything anew."""
    with _tasks(task) as (settings, tasks):
        left, right = _find(settings, tasks[task], one, or_primary=True), _find(settings, tasks[task], other)
    found = diff_profiles(left, right)
    if as_json:
        print_json({"one": left.prompt_id, "other": right.prompt_id, "differences": found})
        return
    for difference in found:
        typer.echo(f"{difference.field} ({'changes the answer' if difference.is_semantic else 'cosmetic'})")
        for line in difference.lines:
            typer.echo(f"  {line}")
    if left.prompt_id == right.prompt_id:
        typer.echo(f"One prompt id, {left.prompt_id}: nothing is asked again.")
    else:
        typer.echo(f"Two prompt ids, {left.prompt_id} and {right.prompt_id}: what one has answered, the other has not.")


@app.command()
def plan(
    task: TaskKey,
    profile: MaybeProfile = None,
    sample: Annotated[int, typer.Option(help="Inputs made into requests to estimate by.", min=1)] = estimates.SAMPLE,
    as_json: AsJson = False,
) -> None:
    """Say what promoting a profile would cost: inputs to ask about, tokens, dollars. Nothing is sent, nothing changes."""
    with _tasks(task) as (settings, tasks):
        found = estimates.estimate(settings, tasks[task], _find(settings, tasks[task], profile), sample)
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found.task_key} '{found.profile}' ({found.prompt_id}): {found.inputs:,} inputs now")
    typer.echo(f"  {found.reused:,} have an answer to it already and are not asked again")
    typer.echo(f"  {found.to_ask:,} would be asked")
    if found.model is None:
        typer.echo("  no model is asked: it costs nothing but time")
    elif found.to_ask:
        typer.echo(f"  {found.model}, {found.mode}: about {found.prompt_tokens:,} prompt tokens (by {found.sampled} of the requests)")
        likely = "no answers yet to judge by" if found.usd is None else f"about {found.usd:.4f} USD, if answers are as long as those so far"
        typer.echo(f"  {likely}; at most {found.usd_at_most:.4f} USD")
    if found.unaskable:
        typer.echo(f"  {found.unaskable} of the sample cannot be asked about: {found.unaskable_reason}")


@app.command()
def promote(
    task: TaskKey,
    profile: Profile,
    as_variant: Annotated[bool, typer.Option("--as-variant", help="Run it beside the primary; gold does not read it.")] = False,
) -> None:
    """Make a profile primary; the one before is retired, its answers stay."""
    with _tasks(task) as (settings, tasks):
        done = promotion.promote(settings, tasks[task], profile, as_variant=as_variant)
    _say(done)


@app.command()
def rollback(task: TaskKey) -> None:
    """Go back to the profile that the primary replaced; nothing that it has answered is asked again."""
    with _tasks(task) as (settings, tasks):
        done = promotion.rollback(settings, tasks[task])
    _say(done)


@app.command()
def retire(task: TaskKey, profile: Profile) -> None:
    """End a variant; its answers stay."""
    with _tasks(task) as (settings, tasks):
        done = promotion.retire(settings, tasks[task], profile)
    _say(done)


@app.command()
def compare(
    task: TaskKey,
    one: Annotated[str, typer.Argument(metavar="ONE", help="A profile.")],
    other: Annotated[str, typer.Argument(metavar="OTHER", help="Another one.")],
    examples: Annotated[int, typer.Option(help="Most inputs shown to which the answers differ.", min=0)] = EXAMPLES,
    as_json: AsJson = False,
) -> None:
    """Show how often two profiles agree on the inputs that both have answered, field by field, and what each costs."""
    with _tasks(task) as (settings, tasks):
        sides = _find(settings, tasks[task], one), _find(settings, tasks[task], other)
        found = compare_profiles(settings, task, *sides, examples)
    if as_json:
        print_json(_comparison(found))
        return
    typer.echo(f"{found.inputs:,} inputs answered by both; the same answer in every field: {found.agreeing:,} ({percent(found.rate)})")
    print_table(
        ("field", "inputs", "agreeing", "share"), [(each.field, each.inputs, each.agreeing, percent(each.rate)) for each in found.fields]
    )
    columns = ("profile", "prompt_id", "answered", "dead", "open", "total_usd", "usd_per_answer")
    print_table(columns, [[_side(side)[name] for name in columns] for side in (found.one, found.other)])
    for example in found.examples:
        typer.echo(f"{example.subject_key}:")
        for name in sorted(example.one.keys() | example.other.keys()):
            if example.one.get(name) != example.other.get(name):
                typer.echo(f"  {name}: {_text(example.one.get(name))}  |  {_text(example.other.get(name))}")


@contextmanager
def _tasks(task_key: str | None) -> Iterator[tuple[Settings, Mapping[str, Task]]]:
    read = load_settings()
    broken: list[Broken] = []
    tasks = load_usable_tasks(read.tasks, broken)
    if task_key is not None:
        find_task(tasks, task_key, broken)
    with database_at_hand(read) as settings:
        yield settings, tasks


def _find(settings: Settings, task: Task, which: str | None, *, or_primary: bool = False) -> PromptProfile:
    with open_for_reading(settings) as connection:
        stored = read_stored(connection, task.task_key)
    if which is not None:
        return find_profile(task, stored.values(), which)
    return (_primary(stored) if or_primary else None) or task.profiles[0]


def _primary(stored: Mapping[str, StoredProfile]) -> PromptProfile | None:
    return next((one.profile for one in stored.values() if one.state == "primary"), None)


def _say(done: promotion.Decision) -> None:
    typer.echo(f"{done.task_key}: profile '{done.profile.profile}' ({done.profile.prompt_id}) is {done.state} now.")
    if done.replaced:
        typer.echo(f"It takes the place of {done.replaced}, whose answers stay.")
    if done.state != "retired":
        typer.echo(f"What it has not answered is asked at the next run: medallion tasks run --task {done.task_key}")


def _comparison(found: Comparison) -> dict[str, object]:
    fields = [vars(each) | {"rate": each.rate} for each in found.fields]
    return vars(found) | {"rate": found.rate, "one": _side(found.one), "other": _side(found.other), "fields": fields}


def _side(side: Side) -> dict[str, object]:
    return vars(side) | {"usd_per_answer": side.usd_per_answer}


def _text(value: object) -> str:
    text = str(value)
    return text if len(text) <= 2_000 else f"{text[:2_000]}…"
