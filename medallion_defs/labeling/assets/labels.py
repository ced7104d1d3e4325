"""The asset `gold/media_labels`, its job and its sensor. Thin: what a refresh does is `labels/build.py`."""

from collections.abc import Iterable
from typing import Any

import dagster as dg
from pydantic import Field

from medallion_defs.core import clock, db, markdown
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import stage_timing
from medallion_defs.labeling.assets.answers import ANSWERS_KEY
from medallion_defs.labeling.assets.tasks import asset_key
from medallion_defs.labeling.labels.build import TABLE, LabelsReport, find_work, refresh_labels
from medallion_defs.labeling.labels.tables import MEDIA_LABELS
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.ops.run_requests import LAYER_TAG, request_run

_JOB = "gold_media_labels"


class LabelsConfig(dg.Config):
    """What a refresh looks at. The sensor sets nothing."""

    is_full: bool = Field(False, description="Look at every input of every task: finds what somebody deleted by hand.")


def build_labels(task_keys: Iterable[str]) -> dg.Definitions:
    """Return the asset, the job and the sensor. Touches neither disk nor database."""
    asset = _build_asset([*(asset_key(task_key) for task_key in task_keys), dg.AssetKey(ANSWERS_KEY)])
    job = dg.define_asset_job(_JOB, selection=[asset], tags={LAYER_TAG: "gold"})
    return dg.Definitions(assets=[asset], jobs=[job], sensors=[_build_sensor()])


def describe(report: LabelsReport) -> dict[str, dg.MetadataValue[Any]]:
    """Return the metadata of a materialization."""
    counts = report.counts
    numbers = {"checked": counts.checked, "created": counts.created, "updated": counts.updated, "deleted": counts.deleted}
    rows = [(task_key, source, number) for task_key, sources in report.labels.items() for source, number in sources.items()]
    return as_metadata(
        {**numbers, "decided_anew": ", ".join(report.decided_anew), **stage_timing(report.seconds, inputs=counts.checked)},
        labels=markdown.table(["task", "who said so", "inputs"], rows),
    )


def _build_asset(deps: list[dg.AssetKey]) -> dg.AssetsDefinition:
    @dg.asset(
        key=["gold", "media_labels"],
        deps=deps,
        group_name="content",
        kinds={"postgres", "gold"},
        tags={LAYER_TAG: "gold"},
        description=f"What holds now for each input that a task was asked about: `{TABLE}`, and one view per task, `gold.label_…`. A "
        "person's verdict stands before an answer, the primary profile before its variants.\n\nMaterialize takes what is new; `is_full` "
        "decides everything again and writes what differs.",
        metadata={
            "dagster/table_name": TABLE,
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(column.name, str(column.type), description=column.comment) for column in MEDIA_LABELS.columns]
            ),
        },
        required_resource_keys={"settings"},
        pool=_JOB,
    )
    def media_labels(context: dg.AssetExecutionContext, config: LabelsConfig) -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(metadata=describe(refresh_labels(context.resources.settings, is_full=config.is_full)))

    return media_labels


def _build_sensor() -> dg.SensorDefinition:
    @dg.sensor(
        name="follow_media_labels",
        job_name=_JOB,
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"settings"},
        description="Follows the change feeds of answers and verdicts, and promotions of profiles; one run for what gold has not seen.",
    )
    def follow_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings: Settings = context.resources.settings
        with db.connect(settings, "medallion_gold") as connection:
            work = find_work(connection)
        if work.is_none:
            return dg.SensorResult(skip_reason=f"{TABLE} has everything")
        request = request_run(context.instance, "gold/media_labels", settings.gold.retry_seconds, clock.now(), again_after_success=True)
        if isinstance(request, str):
            return dg.SensorResult(skip_reason=f"{TABLE}: {request}")
        return dg.SensorResult(run_requests=[request])

    return follow_sensor
