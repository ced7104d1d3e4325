"""From a task to Dagster: one graph asset, plan → process (one step per batch) → consolidate, and the job that runs it.

Thin: what a step does is `runner.py`. Each processed batch is consolidated at once, so that a batch whose step fails takes nothing
from the others, and a killed run nothing that was done; the last step takes what else waits, and tells the whole.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from pydantic import Field

from medallion_defs.core import clock, markdown
from medallion_defs.core.code_version import CodeVersions
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import Timer, stage_timing
from medallion_defs.labeling import runner
from medallion_defs.labeling.engine.consolidate import Consolidated
from medallion_defs.labeling.engine.metrics import read_errors
from medallion_defs.labeling.engine.plan import PlanReport
from medallion_defs.labeling.models.budget import is_refused_still, note_refusal
from medallion_defs.labeling.registry import Task
from medallion_defs.labeling.runner import ProcessReport
from medallion_defs.ops.dagster_asset import data_version, is_synced, plain_failures, require_at_least
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.ops.run_requests import LAYER_TAG, first_requested_at
from medallion_defs.ops.scope import (
    BEFORE_HELP,
    SCOPE_HELP,
    RunScope,
    Scope,
    TaskScope,
    parse_before,
    parse_scope,
    require_match,
)
from medallion_defs.ops.scope_config import ScopeConfig

# A run of bounded length: the page draws a step per batch, and what waits beside the task gets its turn. The rest is the next run's.
MOST_BATCHES = 100
TASKS_TAG = "medallion/tasks"
_SHOWN = 50
# Dagster gives what define_asset_job returns no public name.
TaskJob = Any


class PlanConfig(ScopeConfig):
    """What a task's run does. The sensor sets nothing; a person chooses a scope."""

    scope: TaskScope = Field(
        TaskScope.pending,
        description=f"{SCOPE_HELP}; outdated: what other code than the present did. A task that asks a model pays again.",
    )
    since: str | None = Field(None, description="With scope since: what was planned from this time on (ISO 8601 with a zone).")
    before: str | None = Field(None, description=BEFORE_HELP)
    limit: int | None = Field(None, description="Most tasks that this run plans, 1 or more; the next run goes on.")


@dataclass(frozen=True)
class Worked:
    """What became of one batch: processed, or handed over, and consolidated."""

    report: ProcessReport
    consolidated: Consolidated


@dataclass(frozen=True)
class Planned:
    """What the first step did.

    Attributes:
        redone: results of history that are made again.
        left: batches for the next run.
        asked: the scope that a person chose, and how much it matched, as metadata.
    """

    report: PlanReport
    redone: int
    left: int
    seconds: float
    asked: Mapping[str, int | str] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        """Whether there was nothing to plan, and nothing to do again."""
        return not (self.report.planned or self.report.rearmed or self.report.batched or self.redone or self.asked)


def task_name(task_key: str) -> str:
    """Return the task's key as a name that Dagster takes for ops, jobs and pools."""
    return task_key.replace(".", "_")


def asset_key(task_key: str) -> dg.AssetKey:
    return dg.AssetKey(["silver", "tasks", task_key])


def job_name(task_key: str) -> str:
    return f"task_{task_name(task_key)}"


def build_asset(task: Task) -> dg.AssetsDefinition:
    """Return the asset of one task. Touches neither disk nor database."""
    spec = task.spec
    keys = [dg.AssetKey(["silver", table]) for table in spec.subjects.tables] + [asset_key(needed) for needed in spec.depends_on]
    inputs = {key.to_python_identifier(): dg.AssetIn(key, dagster_type=dg.Nothing) for key in keys}
    plan, process, consolidate = _plan_op(task, list(inputs)), _process_op(task), _consolidate_op(task, keys)

    @dg.graph_asset(
        key=asset_key(task.task_key),
        ins=inputs,
        group_name=spec.domain,
        kinds={"postgres", "silver", "gemini" if spec.model else "python"},
        tags={LAYER_TAG: "silver"},
        owners=list(spec.owners),
        description=_describe_task(task),
        metadata={"dagster/table_name": "silver.tasks_results", "media_type": spec.media_type, "subjects": spec.subjects.name},
        config=_config_of_plan(),
    )
    def task_asset(**deps: Any) -> Any:
        batches, report = plan.alias("plan")(**deps)
        return consolidate.alias("consolidate")(report, batches.map(process.alias("process")).collect())

    return task_asset


def build_job(task: Task, asset: dg.AssetsDefinition) -> TaskJob:
    """Return the job that the sensor runs."""
    return dg.define_asset_job(job_name(task.task_key), selection=[asset], tags={LAYER_TAG: "silver", TASKS_TAG: "yes"},
        description=f"Plans, processes and consolidates the task {task.task_key}: what is open, or, with a scope, a part of history.",
    )  # fmt: skip


def _describe_task(task: Task) -> str:
    if task.spec.model:
        how = (
            "Asks a model: the answers come back by way of bronze, and are read by `silver/tasks/answers`. A scope other than pending "
            "asks, and **pays**, again."
        )
    else:
        how = "Done here, by the task's own code."
    return (
        f"{task.spec.title}: `{task.task_key}` of every one of the {task.spec.subjects.name}, in `silver.tasks_results`. "
        f"{task.spec.description}\n\n{how}\n\nMaterialize does what is open; `scope: all | since | file_ids | outdated` does a part of "
        "history again, and the old results stay until the new ones are there."
    )


def _config_of_plan() -> dg.ConfigMapping:
    @dg.config_mapping
    def config_of_plan(config: PlanConfig) -> dict[str, Any]:
        values = {**config.model_dump(exclude={"scope"}, exclude_none=True), "scope": config.scope.name}
        return {"plan": {"config": values}}

    return config_of_plan


def _plan_op(task: Task, inputs: Sequence[str]) -> dg.OpDefinition:
    @dg.op(
        name=f"plan_{task_name(task.task_key)}",
        ins={name: dg.In(dg.Nothing) for name in inputs},
        out={"batches": dg.DynamicOut(int), "report": dg.Out(Planned)},
        required_resource_keys={"settings"},
        pool=_pool(task),
        description="Finds subjects that the task has not been asked about, and cuts what is open into batches.",
    )
    def plan_op(context: dg.OpExecutionContext, config: PlanConfig) -> Iterator[dg.DynamicOutput[int] | dg.Output[Planned]]:
        with plain_failures():
            planned = _plan(context, task, config)
        for batch_id in planned.report.batch_ids[:MOST_BATCHES]:
            yield dg.DynamicOutput(batch_id, mapping_key=str(batch_id), output_name="batches")
        yield dg.Output(planned, "report", metadata=as_metadata(_numbers_of_plan(planned)))

    return plan_op


def _plan(context: dg.OpExecutionContext, task: Task, config: PlanConfig) -> Planned:
    settings: Settings = context.resources.settings
    timer, redone, asked = Timer(), 0, dict[str, int | str]()
    require_at_least("limit", config.limit, 1)
    scope = parse_scope(RunScope[config.scope.name], config.since, config.file_ids, current_code=CodeVersions((), task.code_version))
    if config.scope is not TaskScope.pending:
        redone, asked = _redo(context, settings, task, scope, config.before)
    report = runner.plan(settings, task, config.limit)
    for prompt_id in report.waiting_profiles:
        context.log.info(f"Profile {prompt_id} is in the task's folder and waits to be promoted; it is not asked.")
    if report.note:
        context.log.info(report.note)
    return Planned(report, redone, max(0, len(report.batch_ids) - MOST_BATCHES), timer.seconds, asked)


def _redo(
    context: dg.OpExecutionContext, settings: Settings, task: Task, scope: Scope, before_text: str | None
) -> tuple[int, dict[str, int | str]]:
    """Set a part of history to pending; return how much, and what was asked for."""
    run = context.instance.get_run_by_id(context.run_id)
    before = parse_before(before_text, first_requested_at(context.instance, run) if run else clock.now())
    done = runner.backfill(settings, task, scope, before)
    # A re-execution does what the first run left, and that may be nothing.
    if run is None or run.parent_run_id is None:
        what = f"result of {task.task_key}; 'medallion tasks list --task {task.task_key}' shows what there is"
        require_match(done.tasks + done.marked, scope, what, before if before_text else None)
    context.log.info(f"To do the rest after a stop, launch this again with before: '{before.isoformat()}'")
    if done.marked:
        context.log.warning(runner.explain_marked(settings, task, done.marked))
    asked: dict[str, int | str] = {
        "scope": str(scope),
        "before": before.isoformat(),
        "tasks_matched": done.tasks,
        "kept_by_marker": done.marked,
    }
    return done.tasks, asked


def _process_op(task: Task) -> dg.OpDefinition:
    @dg.op(
        name=f"process_{task_name(task.task_key)}",
        out=dg.Out(Worked),
        required_resource_keys={"settings"},
        pool=_pool(task),
        description="Takes one batch, brings its items to an outcome or to the model's door, and consolidates.",
    )
    def process_op(context: dg.OpExecutionContext, batch_id: int) -> dg.Output[Worked]:
        settings: Settings = context.resources.settings
        with plain_failures():
            report = _process(context, settings, task, batch_id)
        worked = Worked(report, runner.consolidate(settings, task).counts)
        context.log.info(f"Batch {batch_id}: {report.note or dict(report.events) or 'held by another worker, or done'}")
        return dg.Output(worked, metadata=as_metadata(_numbers_of_batch(report)))

    return process_op


def _process(context: dg.OpExecutionContext, settings: Settings, task: Task, batch_id: int) -> ProcessReport:
    """Process the batch; once a cap in dollars has refused one of the run, the others are not built in vain."""
    if task.spec.model and is_refused_still(context.instance.get_run_by_id(context.run_id), settings, task.task_key):
        return ProcessReport(batch_id, note="waits: an earlier batch of the run has met a cap in dollars")
    report = runner.process(settings, task, batch_id, f"{runner.worker_name()}:{context.run_id}")
    if report.note and not report.is_claimed:
        note_refusal(context.instance, context.run_id, settings, task.task_key)
    return report


def _consolidate_op(task: Task, inputs: Sequence[dg.AssetKey]) -> dg.OpDefinition:
    key = asset_key(task.task_key)

    @dg.op(
        name=f"consolidate_{task_name(task.task_key)}",
        ins={"planned": dg.In(Planned), "worked": dg.In(list[Worked])},
        out=dg.Out(dg.Nothing, is_required=False),
        required_resource_keys={"settings"},
        pool=_pool(task),
        description="Takes what earlier runs and answers left to be consolidated, and tells what became of everything.",
    )
    def consolidate_op(context: dg.OpExecutionContext, planned: Planned, worked: list[Worked]) -> Iterator[dg.MaterializeResult[Any]]:
        settings: Settings = context.resources.settings
        with plain_failures():
            rest = runner.consolidate(settings, task).counts
            total = sum((each.consolidated for each in worked), rest)
            if planned.is_nothing and not worked and not rest.items and is_synced(context.instance, key, inputs):
                context.log.info(f"{task.task_key}: nothing is open. To have something done again, choose a scope in the launchpad.")
                return
            metadata = describe(settings, task, planned, worked, total)
        is_changed = bool(total.results_created or total.results_updated)
        version = data_version(context.instance, context.run_id, key, is_changed=is_changed)
        yield dg.MaterializeResult(asset_key=key, metadata=metadata, data_version=version)

    return consolidate_op


def describe(
    settings: Settings, task: Task, planned: Planned, worked: Sequence[Worked], total: Consolidated
) -> Mapping[str, dg.MetadataValue[Any]]:
    """Return the metadata of a task's materialization: the run in numbers, what was handed over, and the failures that stand."""
    items = sum(each.report.items for each in worked)
    seconds = sum((each.report.seconds for each in worked), planned.seconds)
    counts = {name: getattr(total, name) for name in ("succeeded", "retrying", "dead", "withdrawn", "results_created", "results_updated")}
    errors = read_errors(settings, task.task_key)[:_SHOWN]
    notes = Counter(each.report.note for each in worked if each.report.note)
    return as_metadata(
        {**planned.asked, **_numbers_of_plan(planned), "batches": len(worked), **counts, **stage_timing(seconds, items=items)},
        asked=markdown.table(["what became of the batches", "batches"], notes.most_common(_SHOWN)),
        failures=markdown.table(
            ["error", "status", "tasks", "the last of them"],
            [(error.error_type, error.status, error.tasks, error.last_message) for error in errors],
        ),
    )


def _numbers_of_plan(planned: Planned) -> dict[str, int | float | str]:
    report = planned.report
    return {
        "planned": report.planned, "rearmed": report.rearmed, "done_again": planned.redone, "batched": report.batched,
        "batches_left": planned.left, **({"promoted": report.note} if report.note else {}),
    }  # fmt: skip


def _numbers_of_batch(report: ProcessReport) -> dict[str, int | float | str]:
    return {**report.events, **stage_timing(report.seconds, items=report.items), **({"note": report.note} if report.note else {})}


def _pool(task: Task) -> str:
    return f"tasks_{task_name(task.task_key)}"
