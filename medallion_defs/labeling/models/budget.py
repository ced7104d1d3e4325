"""How a task that asks a model waits while a cap in dollars is reached: without a run that finds out again and again.

A run that was refused leaves a mark on itself: what was spent and reserved, and the caps. While the mark is still true, another
run would be refused as well; a new day, a settled batch or a higher cap makes it untrue.
"""

import dagster as dg

from medallion_defs.core import clock, db
from medallion_defs.core.settings import Settings
from medallion_defs.genai.state import BatchState

BUDGET_TAG = "medallion/budget"


def read_mark(settings: Settings, task_key: str) -> str:
    """Return what decides now whether anything may be asked for the task."""
    now, genai = clock.now(), settings.genai
    with db.connect(settings, "medallion_gold") as connection:
        all_usd, task_usd = BatchState(connection).read_committed(task_key, now)
    return f"{now:%Y-%m-%d} {all_usd} of {genai.max_usd_per_day}, {task_usd} of {genai.max_usd_per_task.get(task_key, 'any')}"


def note_refusal(instance: dg.DagsterInstance, run_id: str, settings: Settings, task_key: str) -> None:
    """Mark the run as one that was refused."""
    instance.add_run_tags(run_id, {BUDGET_TAG: read_mark(settings, task_key)})


def is_refused_still(run: dg.DagsterRun | None, settings: Settings, task_key: str) -> bool:
    """Whether the run was refused, and asking now would be, too."""
    mark = run.tags.get(BUDGET_TAG) if run else None
    return mark is not None and mark == read_mark(settings, task_key)
