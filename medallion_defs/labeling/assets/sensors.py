"""The sensor of all tasks: a run for each task that has something to do, and none for one that can only wait.

One sensor, not one per task: a tick costs a connection and its row in Dagster's database, however little there is to see.
What is open is read from the data (`open_work.py`), so a tick can happen twice, or be lost.
"""

from collections.abc import Mapping, Sequence

import dagster as dg

from medallion_defs.core import clock, db
from medallion_defs.core.settings import Settings
from medallion_defs.labeling.assets.open_work import CONSOLIDATION, Memory, look
from medallion_defs.labeling.assets.tasks import TaskJob, job_name
from medallion_defs.labeling.models.budget import is_refused_still
from medallion_defs.labeling.registry import Task, in_order
from medallion_defs.ops.cursors import note_cursor, read_cursor
from medallion_defs.ops.run_requests import WORK_TAG, request_run

_NAME = "plan_tasks"


def build_task_sensor(tasks: Mapping[str, Task], jobs: Sequence[TaskJob]) -> dg.SensorDefinition:
    """Return the sensor that plans every task."""
    ordered = in_order(tasks)

    @dg.sensor(
        name=_NAME,
        jobs=jobs,
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"settings"},
        description="Looks whether a task has new subjects, due retries, or batches without a worker; requests one run per such task.",
    )
    def plan_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings: Settings = context.resources.settings
        with db.connect(settings, "medallion_gold") as connection:
            found, memory = look(connection, ordered, read_cursor(connection, _NAME, context.cursor, Memory), clock.now())
            cursor = note_cursor(connection, _NAME, memory)
        asked = {task_key: _request(context.instance, settings, tasks[task_key], reason) for task_key, reason in found.items()}
        requests = [request for request in asked.values() if isinstance(request, dg.RunRequest)]
        waits = [f"{task_key}: {request}" for task_key, request in asked.items() if isinstance(request, str)]
        return dg.SensorResult(
            run_requests=requests,
            cursor=cursor,
            skip_reason=None if requests else "; ".join(waits) or f"{len(ordered)} tasks: nothing to do",
        )

    return plan_sensor


def _request(instance: dg.DagsterInstance, settings: Settings, task: Task, reason: str) -> dg.RunRequest | str:
    work = work_name(task.task_key)
    if task.spec.model and reason != CONSOLIDATION and (waits := _why_not_ask(instance, settings, task, work)):
        return f"{reason}, but {waits}"
    return request_run(
        instance, work, settings.task(task.task_key).retry_seconds, clock.now(), job_name=job_name(task.task_key), again_after_success=True
    )


def _why_not_ask(instance: dg.DagsterInstance, settings: Settings, task: Task, work: str) -> str | None:
    if not settings.genai.is_reachable:
        return "no model can be asked: set MEDALLION_GENAI__API_KEY, or name the emulator in MEDALLION_GENAI__BASE_URL"
    records = instance.get_run_records(dg.RunsFilter(tags={WORK_TAG: work}), limit=1)
    if is_refused_still(records[0].dagster_run if records else None, settings, task.task_key):
        return "a cap in dollars is reached (genai.max_usd_per_day, genai.max_usd_per_task)"
    return None


def work_name(task_key: str) -> str:
    """Return the name that the runs of a task carry as a tag."""
    return f"tasks/{task_key}"
