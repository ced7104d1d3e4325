"""The asset `gold/media_labels`, its job and its sensor. Thin: what a refresh does is `labels/build.py`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from medallion_defs.core import clock, db, markdown
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import stage_timing
from medallion_defs.labeling.assets.answers import ANSWERS_KEY
from medallion_defs.labeling.assets.tasks import asset_key
from medallion_defs.labeling.contract import TaskSpec
from medallion_defs.labeling.labels.build import TABLE, LabelsReport, find_work, refresh_labels
from medallion_defs.labeling.labels.tables import MEDIA_LABELS
from medallion_defs.labeling.labels.vanished import find_deletions
from medallion_defs.labeling.registry import Task
from medallion_defs.ops.dagster_asset import data_version, is_synced, plain_failures
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.ops.run_requests import LAYER_TAG, request_run

_JOB = "gold_media_labels"


class LabelsConfig(dg.Config):
    """What a refresh looks at. The sensor sets nothing."""

    is_full: bool = Field(False, description="Look at every input of every task: finds what was deleted by hand.")


def build_labels(tasks: Mapping[str, Task]) -> dg.Definitions:
    """Return the asset, the job and the sensor. Touches neither disk nor database."""
    specs = [task.spec for task in tasks.values()]
    asset = _build_asset(specs)
    job = dg.define_asset_job(_JOB, selection=[asset], tags={LAYER_TAG: "gold"},
        description=f"Brings {TABLE} up to date with answers, verdicts and promotions.",
    )  # fmt: skip
    return dg.Definitions(assets=[asset], jobs=[job], sensors=[_build_sensor(specs)])


def describe(report: LabelsReport) -> dict[str, dg.MetadataValue[Any]]:
    """Return the metadata of a materialization."""
    counts = report.counts
    numbers = {"checked": counts.checked, "created": counts.created, "updated": counts.updated, "deleted": counts.deleted}
    rows = [(task_key, source, number) for task_key, sources in report.labels.items() for source, number in sources.items()]
    return as_metadata(
        {**numbers, "decided_anew": ", ".join(report.decided_anew), **stage_timing(report.seconds, inputs=counts.checked)},
        labels=markdown.table(["task", "who said so", "inputs"], rows),
    )


def _build_asset(specs: Sequence[TaskSpec]) -> dg.AssetsDefinition:
    deps = [*(asset_key(spec.task_key) for spec in specs), dg.AssetKey(ANSWERS_KEY)]

    @dg.asset(
        key=["gold", "media_labels"],
        deps=deps,
        group_name="content",
        kinds={"postgres", "gold"},
        tags={LAYER_TAG: "gold"},
        owners=["team:content"],
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
        output_required=False,
        pool=_JOB,
    )
    def media_labels(context: dg.AssetExecutionContext, config: LabelsConfig) -> Iterator[dg.MaterializeResult[Any]]:
        with plain_failures():
            report = refresh_labels(context.resources.settings, specs, is_full=config.is_full)
        if not report.counts.checked and not report.decided_anew and is_synced(context.instance, context.asset_key, deps):
            context.log.info(f"{TABLE} has everything. With is_full all inputs are decided again.")
            return
        counts = report.counts
        is_changed = bool(counts.created or counts.updated or counts.deleted)
        version = data_version(context.instance, context.run.run_id, context.asset_key, is_changed=is_changed)
        yield dg.MaterializeResult(metadata=describe(report), data_version=version)

    return media_labels


def _build_sensor(specs: Sequence[TaskSpec]) -> dg.SensorDefinition:
    @dg.sensor(
        name="follow_media_labels",
        job_name=_JOB,
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"settings"},
        description="Follows the change feeds of answers, verdicts and deleted subjects, and promotions of profiles; one run for what gold "
        "has not seen.",
    )
    def follow_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings: Settings = context.resources.settings
        with db.connect(settings, "medallion_gold") as connection:
            is_done = find_work(connection).is_none and not find_deletions(connection, specs)
        if is_done:
            return dg.SensorResult(skip_reason=f"{TABLE} has everything")
        request = request_run(context.instance, "gold/media_labels", settings.gold.retry_seconds, clock.now(), again_after_success=True)
        if isinstance(request, str):
            return dg.SensorResult(skip_reason=f"{TABLE}: {request}")
        return dg.SensorResult(run_requests=[request])

    return follow_sensor
