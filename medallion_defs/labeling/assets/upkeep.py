"""Housekeeping as Dagster runs it: jobs for a person to launch, and schedules that are stopped until somebody wants them.

What each does is `housekeeping.py` and `genai/outbox.py`. The engine is right without all of it.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta

import dagster as dg
from pydantic import Field

from medallion_defs.core import clock, db
from medallion_defs.core.settings import Settings
from medallion_defs.genai.outbox import remove_leftovers
from medallion_defs.labeling.engine import housekeeping, leftovers
from medallion_defs.labeling.registry import Task, find_task
from medallion_defs.ops.dagster_asset import plain_failures, require_at_least
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.ops.run_requests import LAYER_TAG


class RepairConfig(dg.Config):
    """What happens to rows that nothing will come of."""

    purge: bool = Field(False, description="Remove tasks without a result whose prompt is retired, or whose task or subject is gone.")


class CompactConfig(dg.Config):
    """Which events are folded."""

    older_than_days: int = Field(30, description="Of batches that were done longer ago than this; 1 or more.")


class ReconcileConfig(dg.Config):
    """Whose subjects are read again."""

    task_keys: list[str] = Field(default_factory=list, description="Keys of tasks, such as text.summarize. Empty: all tasks.")


class OutboxConfig(dg.Config):
    """Which folders count as left over."""

    older_than_hours: float = Field(24, description="Older folders whose batch is gone or over are removed; 1 or more.")


def build_upkeep(tasks: Mapping[str, Task]) -> dg.Definitions:
    """Return the jobs and their schedules. Touches neither disk nor database."""

    @dg.op(required_resource_keys={"settings"})
    def repair_tasks(context: dg.OpExecutionContext, config: RepairConfig) -> None:
        settings: Settings = context.resources.settings
        done = housekeeping.repair(settings)
        found = leftovers.find_leftovers(settings, tasks)
        for left in leftovers.describe(found):
            context.log.info(f"{left.tasks:,} of {left.task_key} are left over, {left.reason}: {', '.join(map(str, left.examples))}")
        purged = leftovers.purge(settings, found) if config.purge else leftovers.Purged(0, 0)
        _tell(
            context, orphans=done.orphans, lost_results=done.lost_results, stray_events=done.stray_events, leases=done.expired_leases,
            left_over=sum(map(len, found.values())), purged=purged.tasks,
        )  # fmt: skip

    @dg.op(required_resource_keys={"settings"})
    def compact_tasks(context: dg.OpExecutionContext, config: CompactConfig) -> None:
        with plain_failures():
            require_at_least("older_than_days", config.older_than_days, 1)
        done = housekeeping.compact(context.resources.settings, clock.now() - timedelta(days=config.older_than_days))
        _tell(context, batches=done.batches, events=done.events)

    @dg.op(required_resource_keys={"settings"})
    def reconcile_tasks(context: dg.OpExecutionContext, config: ReconcileConfig) -> None:
        with plain_failures():
            task_keys = [find_task(tasks, task_key).task_key for task_key in config.task_keys] or list(tasks)
        for task_key in task_keys:
            housekeeping.reconcile(context.resources.settings, task_key)
        _tell(context, tasks=len(task_keys))

    @dg.op(required_resource_keys={"settings"})
    def clear_outbox(context: dg.OpExecutionContext, config: OutboxConfig) -> None:
        settings: Settings = context.resources.settings
        with plain_failures():
            require_at_least("older_than_hours", config.older_than_hours, 1)
        before = clock.now() - timedelta(hours=config.older_than_hours)
        with db.connect(settings, "medallion_gold") as connection:
            removed = remove_leftovers(connection, settings.data_path, before)
        for name in removed:
            context.log.info(f"Removed data/outbox/{name}.")
        _tell(context, folders=len(removed))

    return dg.Definitions.merge(
        _job("tasks_repair", repair_tasks, "20 2 * * *", "Frees tasks that a crash or a hand in the database left between two states."),
        _job("tasks_compact", compact_tasks, "40 2 * * 0", "Folds old events of silver.tasks_status into one row per task."),
        _job("tasks_reconcile", reconcile_tasks, "0 5 * * 0", "Lets the next plan read all subjects from the start."),
        _job("tasks_outbox", clear_outbox, "10 5 * * *", "Removes requests from data/outbox that will not be sent any more."),
    )


def _job(name: str, work: Callable[[], object], cron: str, description: str) -> dg.Definitions:
    @dg.job(name=name, tags={LAYER_TAG: "silver"}, description=description)
    def job() -> None:
        work()

    schedule = dg.ScheduleDefinition(name=name, job=job, cron_schedule=cron, default_status=dg.DefaultScheduleStatus.STOPPED,
        description=description,
    )  # fmt: skip
    return dg.Definitions(jobs=[job], schedules=[schedule])


def _tell(context: dg.OpExecutionContext, **numbers: int) -> None:
    context.log.info(", ".join(f"{name}: {number}" for name, number in numbers.items()))
    context.add_output_metadata(as_metadata(numbers))
