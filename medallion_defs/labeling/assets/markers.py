"""The look after success markers, as Dagster runs it: somebody who removes a marker changes no table, so no sensor of tasks sees it.

Each look costs a stat per marker. What it finds becomes pending, and then it is the task sensor's.
"""

from collections.abc import Mapping

import dagster as dg

from medallion_defs.core import db
from medallion_defs.core.settings import Settings
from medallion_defs.labeling.labels.markers import Markers, markers_of
from medallion_defs.labeling.registry import Task
from medallion_defs.ops.dagster_asset import plain_failures
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.ops.run_requests import LAYER_TAG, LIVE_STATUSES

JOB = "tasks_markers"


def look_after_markers(settings: Settings, tasks: Mapping[str, Task]) -> dict[str, int]:
    """Ask again about what somebody removed the marker of, and write the markers that are missing; return how many of each.

    Raises:
        ConfigurationError: the settings of a folder are not valid, or a folder with markers is gone.
        TransientError: a marker cannot be read or written.
    """
    counts = {"asked_again": 0, "written": 0}
    with db.connect(settings, "medallion_gold", autocommit=True) as connection:
        for markers in _all_markers(settings, tasks):
            counts["asked_again"] += markers.ask_removed_again(connection)
            counts["written"] += markers.write_missing(connection)
    return counts


def build_marker_job(tasks: Mapping[str, Task]) -> dg.Definitions:
    """Return the job and its schedule. Touches neither disk nor database."""

    @dg.op(required_resource_keys={"settings"})
    def check_markers(context: dg.OpExecutionContext) -> None:
        with plain_failures():
            counts = look_after_markers(context.resources.settings, tasks)
        context.log.info(
            f"{counts['asked_again']} pages without their marker are asked about again, {counts['written']} markers were written."
        )
        context.add_output_metadata(as_metadata(counts))

    @dg.job(name=JOB, tags={LAYER_TAG: "gold"}, description="Asks again about subjects whose marker was removed; writes missing markers.")
    def job() -> None:
        check_markers()

    @dg.schedule(
        name=JOB,
        job=job,
        cron_schedule="*/15 * * * *",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Every quarter of an hour, where the settings name a folder of markers: looks for markers that were removed.",
        required_resource_keys={"settings"},
    )
    def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if not _all_markers(context.resources.settings, tasks):
            return dg.SkipReason("no task writes markers: the settings name no folder for them")
        live = context.instance.get_runs(filters=dg.RunsFilter(job_name=JOB, statuses=list(LIVE_STATUSES)), limit=1)
        return dg.SkipReason(f"run {live[0].run_id} is at it") if live else dg.RunRequest()

    return dg.Definitions(jobs=[job], schedules=[schedule])


def _all_markers(settings: Settings, tasks: Mapping[str, Task]) -> list[Markers]:
    found = (markers_of(settings, task) for task in tasks.values())
    return [markers for markers in found if markers is not None]
