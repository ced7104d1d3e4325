"""The asset `silver/tasks/answers`: what a model answered, from bronze to outcomes of tasks; its job and its sensor.

Thin: parsing is `answers.py`. Collecting writes the ledger, so there is nothing to discover: the sensor hands out what the ledger has.
A crash between publishing and the ledger leaves the batch to be collected, and collecting it again registers it.
"""

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

import dagster as dg

from medallion_defs.core import clock, db, markdown
from medallion_defs.core.markdown import fill
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import Timer, stage_timing
from medallion_defs.genai.report import BatchReport, describe_report
from medallion_defs.labeling.assets.tasks import TASKS_TAG
from medallion_defs.labeling.models.answers import SOURCE_TYPES, code_of, read_ledger_batch
from medallion_defs.labeling.registry import Task
from medallion_defs.ops.dagster_asset import plain_failures
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.hand_out import Tick, request_for, waiting_batches
from medallion_defs.ops.ledger import BatchInUseError, Ledger
from medallion_defs.ops.ledger_values import LedgerFilter
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.ops.run_requests import LAYER_TAG, requested_work

ANSWERS_KEY = ("silver", "tasks", "answers")
_LAYER = "answers"
_JOB = "tasks_answers"
_SHOWN = 20


def build_answers(tasks: Mapping[str, Task]) -> dg.Definitions:
    """Return the asset, the job and the sensor. Touches neither disk nor database."""
    asset = _build_asset(tasks)
    job = dg.define_asset_job(_JOB, selection=[asset], tags={LAYER_TAG: "silver", TASKS_TAG: "yes"},
        description="Reads the model's answers that wait in bronze into the results of the tasks that asked.",
    )  # fmt: skip
    return dg.Definitions(assets=[asset], jobs=[job], sensors=[_build_sensor(tasks)])


def _build_asset(tasks: Mapping[str, Task]) -> dg.AssetsDefinition:
    @dg.asset(
        key=list(ANSWERS_KEY),
        deps=[["bronze", source_type] for source_type in SOURCE_TYPES],
        group_name="gemini",
        kinds={"postgres", "silver", "gemini"},
        tags={LAYER_TAG: "silver"},
        owners=["team:data-platform"],
        description="What the model answered, matched with what it was asked, validated, priced, and given to the tasks that asked: "
        "`silver.tasks_results`. Each batch's **Batch Summary Report** is on the materialization.\n\n"
        "Materialize reads what waits in bronze. To read answers again that were read before: `medallion genai reparse`.",
        metadata={"dagster/table_name": "silver.tasks_results"},
        required_resource_keys={"settings"},
        output_required=False,
        pool=_JOB,
    )
    def answers(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        settings: Settings = context.resources.settings
        timer, run_id = Timer(), context.run.run_id
        with plain_failures():
            reports = list(_read(context, settings, tasks))
        failed = _failed_items(settings, run_id)
        if not reports and not failed:
            context.log.info("No answer waits in bronze. To read answers again that were read before: medallion genai reparse.")
            return
        yield dg.MaterializeResult(metadata=describe(reports, failed, timer.seconds))
        if failed:
            # After the reports of the others. Green would say that every batch was read; the ledger tries again, not Dagster.
            raise dg.Failure(f"{len(failed)} of the items in bronze could not be read: {_why(failed[0])}", allow_retries=False)

    return answers


def _read(context: dg.AssetExecutionContext, settings: Settings, tasks: Mapping[str, Task]) -> Iterator[BatchReport]:
    """Read the batch that the sensor handed out, or, of a run that a person launched, all that waits."""
    if work := requested_work(context.run, _LAYER):
        source_type, _, batch_id = work.partition("/")
        yield from read_ledger_batch(settings, tasks, source_type, batch_id, context.run.run_id)
        return
    for source_type, batch_id in _claim_all(settings, tasks):
        try:
            yield from read_ledger_batch(settings, tasks, source_type, batch_id, context.run.run_id)
        except BatchInUseError as error:
            context.log.info(str(error))


def _claim_all(settings: Settings, tasks: Mapping[str, Task]) -> Iterator[tuple[str, str]]:
    """Claim what waits, microbatch by microbatch; yield source type and id of each."""
    for source_type in SOURCE_TYPES:
        claimed = True
        while claimed:
            with db.connect(settings, "medallion_gold") as connection:
                batches = Ledger(connection).claim(source_type, settings.source(source_type), code_of(tasks), clock.now())
            yield from ((source_type, batch.batch_id) for batch in batches)
            claimed = bool(batches)


def _failed_items(settings: Settings, run_id: str) -> list[DatasetIngestion]:
    with db.connect(settings, "medallion_gold") as connection:
        rows = Ledger(connection).list_rows(LedgerFilter(run_id=run_id)).rows
    return [row for row in rows if row.source_type in SOURCE_TYPES and row.silver_run_id == run_id and row.silver_errors]


def describe(reports: Sequence[BatchReport], failed: Sequence[DatasetIngestion], seconds: float) -> dict[str, dg.MetadataValue[Any]]:
    """Return the metadata of a materialization: the reports, and their numbers together."""
    total = sum(report.total for report in reports)
    counts = {
        "batches": len(reports),
        "total": total,
        "success": sum(report.success for report in reports),
        "failures": sum(len(report.failures) for report in reports),
        "items_failed": len(failed),
        "cost_usd": float(sum((report.cost_usd for report in reports), Decimal(0))),
    }
    shown = [describe_report(report) for report in reports[:_SHOWN]]
    if len(reports) > _SHOWN:
        more = len(reports) - _SHOWN
        shown.append(fill("… and {more} more batches: `medallion genai report BATCH_ID`", more=more))
    return as_metadata(
        {**counts, **stage_timing(seconds, records=total)},
        batch_summary_report=markdown.join(shown, "\n\n"),
        unreadable=markdown.table(
            ["item in bronze", "status", "why", "file id"], [(row.bronze_path, row.status, _why(row), row.file_id) for row in failed]
        ),
    )


def _why(row: DatasetIngestion) -> str:
    return (row.silver_errors or {}).get("message", "")


def _build_sensor(tasks: Mapping[str, Task]) -> dg.SensorDefinition:
    @dg.sensor(
        name="read_answers",
        job_name=_JOB,
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"settings"},
        description="Hands out the answers of the model that are in bronze and were not read.",
    )
    def answers_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings: Settings = context.resources.settings
        with db.connect(settings, "medallion_gold") as connection:
            ticks = [Tick(context, connection, name, settings.source(name), code_of(tasks), _LAYER) for name in SOURCE_TYPES]
            requests = [request_for(tick, batch) for tick in ticks for batch in waiting_batches(tick, tick.options)]
        return dg.SensorResult(run_requests=requests, skip_reason=None if requests else "answers: nothing to read")

    return answers_sensor
