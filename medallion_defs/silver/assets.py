"""From a source's content folder to Dagster: the silver asset, its checks, its backfill schedule and the hourly reconcile.

Thin: which batches to load is `which_batches`, loading is `load_run.py`, history `backfill.py`. The sensor is in `sensors.py`.
"""

from collections.abc import Iterator
from datetime import datetime

import dagster as dg
from pydantic import Field

from medallion_defs.core import clock, db
from medallion_defs.core.settings import Settings
from medallion_defs.ops.ledger import Batch, Ledger
from medallion_defs.ops.run_requests import LAYER_TAG
from medallion_defs.ops.scope import RunScope, parse_scope, parse_time
from medallion_defs.silver.backfill import arrived, history_batches, load_unless_in_use
from medallion_defs.silver.checks import check_results, check_specs
from medallion_defs.silver.discovery import discover, reconcile
from medallion_defs.silver.load_run import LoadReport, SilverContent, load_batch
from medallion_defs.silver.report import describe_load, describe_reconciliation, read_silver_manifest
from medallion_defs.silver.sensors import build_sensor

_DISCOVERY_SECONDS = 30.0


class LoadConfig(dg.Config):
    """What a silver run loads. The sensor sets `batch_id` and nothing else; a person chooses a scope."""

    batch_id: str | None = None
    scope: RunScope = RunScope.pending
    since: str | None = Field(None, description="With scope since: what was fetched from this time on.")
    file_ids: list[str] = Field(default_factory=list, description="With scope file_ids.")
    dataset: str | None = Field(None, description="With scope dataset: a dataset of a recipe, * and ? allowed.")
    before: str | None = Field(None, description="Only what was last processed before this time; default: when the run was requested.")


def build_silver(content: SilverContent) -> dg.Definitions:
    """Return everything that silver runs for one source. Touches neither disk nor database."""
    asset = _build_asset(content)
    name = content.source.name
    job = dg.define_asset_job(f"silver_{name}", selection=dg.AssetSelection.assets(asset), tags={LAYER_TAG: "silver"})
    reconcile_job = _build_reconcile(content)
    return dg.Definitions(
        assets=[asset],
        jobs=[job, reconcile_job],
        sensors=[build_sensor(content)],
        schedules=[
            _build_backfill(name),
            dg.ScheduleDefinition(
                name=f"reconcile_silver_{name}",
                job=reconcile_job,
                cron_schedule="17 * * * *",
                default_status=dg.DefaultScheduleStatus.RUNNING,
            ),
        ],
    )


def which_batches(settings: Settings, content: SilverContent, config: LoadConfig, requested_at: datetime) -> Iterator[str]:
    """Yield the ids of the batches to load, one at a time: the next is claimed when the one before is done.

    `batch_id`: that one. `pending`: what discovery finds, until nothing is left. The other scopes: history, chunk by chunk
    (`backfill.py`), and after each chunk what has arrived meanwhile.

    Raises:
        ConfigurationError: the scope lacks its value, or a value is none; the message says which.
    """
    if config.batch_id:
        yield config.batch_id
        return
    scope = parse_scope(config.scope, config.since, config.file_ids, config.dataset, current_code=content.code_version)
    if config.scope is RunScope.pending:
        yield from _claim_pending(settings, content)
        return
    before = parse_time("before", config.before) if config.before else requested_at
    for batch_id in history_batches(settings, content, scope, before):
        yield batch_id
        yield from arrived(settings, content)


def _claim_pending(settings: Settings, content: SilverContent) -> Iterator[str]:
    name, options = content.source.name, settings.source(content.source.name)
    with db.connect(settings, "medallion_silver") as connection:
        discover(connection, settings.bronze_path, name, None, options.discovery, _DISCOVERY_SECONDS)
    while batches := _claim(settings, content):
        yield from (batch.batch_id for batch in batches)


def _claim(settings: Settings, content: SilverContent) -> list[Batch]:
    name = content.source.name
    with db.connect(settings, "medallion_silver") as connection:
        return Ledger(connection).claim(name, settings.source(name), content.code_version, clock.now())


def _build_asset(content: SilverContent) -> dg.AssetsDefinition:
    source, table = content.source, content.table

    @dg.asset(
        key=["silver", source.name],
        deps=[["bronze", source.name]],
        group_name=source.domain,
        kinds={"postgres", "silver"},
        tags={LAYER_TAG: "silver"},
        owners=list(source.owners),
        description=f"{source.title}: typed, deduplicated, flagged; `{table.schema}.{table.name}`. {source.description}\n\n"
        "Materialize loads what is pending; `scope: all | since | dataset | file_ids | outdated` loads history again, in chunks.",
        metadata={"dagster/table_name": f"{table.schema}.{table.name}", "dagster/column_schema": _column_schema(content)},
        check_specs=check_specs(source.name),
        required_resource_keys={"settings"},
        pool=f"silver_{source.name}",
    )
    def silver_asset(context: dg.AssetExecutionContext, config: LoadConfig) -> dg.MaterializeResult:  # type: ignore[type-arg]  # with checks, Dagster takes only the bare class
        settings: Settings = context.resources.settings
        reports = []
        requested_at = first_requested_at(context.instance, context.run)
        if config.scope is not RunScope.pending:
            context.log.info(f"To do the rest after a stop, launch this again with before: {config.before or requested_at.isoformat()}")
        for batch_id in which_batches(settings, content, config, requested_at):
            # A run for one batch must not end green when it did nothing; any other goes on with what is free.
            load = load_batch if config.batch_id else load_unless_in_use
            loaded = load(settings, content, batch_id, context.run.run_id)
            if loaded is None:
                context.log.info(f"{batch_id} is being loaded by another run.")
                continue
            reports.append(loaded)
            context.log.info(_progress(batch_id, loaded))
        report = LoadReport.merge(reports)
        for item in report.failed:
            context.log.warning(f"{item.bronze_path} is {item.status}: {(item.silver_errors or {}).get('message')}")
        options = settings.source(source.name)
        return dg.MaterializeResult(
            metadata=describe_load(report, read_silver_manifest(settings, content, context.run.run_id)),
            check_results=check_results(report, options),
        )

    return silver_asset


def first_requested_at(instance: dg.DagsterInstance, run: dg.DagsterRun) -> datetime:
    """Return when the run, or the first that it is a retry of, was requested: a retry then does what the first left."""
    record = instance.get_run_record_by_id(run.root_run_id or run.run_id)
    return record.create_timestamp if record else clock.now()


def _column_schema(content: SilverContent) -> dg.TableSchema:
    columns = [dg.TableColumn(column.name, str(column.type), description=column.comment) for column in content.table.columns]
    return dg.TableSchema(columns)


def _build_backfill(name: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"backfill_silver_{name}",
        job_name=f"silver_{name}",
        cron_schedule="0 3 * * 0",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Loads all history again, weekly, in chunks; a retry goes on where the run stopped.",
    )
    def backfill(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        before = context.scheduled_execution_time.isoformat()
        config = {"scope": RunScope.all.name, "before": before}
        return dg.RunRequest(run_key=before, run_config={"ops": {f"silver__{name}": {"config": config}}})

    return backfill


def _build_reconcile_schedule(name: str, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    running = dg.DefaultScheduleStatus.RUNNING
    return dg.ScheduleDefinition(name=f"reconcile_silver_{name}", job=job, cron_schedule="17 * * * *", default_status=running)


def _build_reconcile(content: SilverContent) -> dg.JobDefinition:
    name = content.source.name

    @dg.op(name=f"reconcile_{name}_with_ledger", required_resource_keys={"settings"})
    def reconcile_op(context: dg.OpExecutionContext) -> None:
        settings: Settings = context.resources.settings
        with db.connect(settings, "medallion_silver") as connection:
            found = reconcile(connection, settings.bronze_path, name)
        context.log_event(dg.AssetObservation(asset_key=["silver", name], description="reconcile", metadata=describe_reconciliation(found)))
        for problem in found.problems:
            context.log.warning(f"{problem.path}: {problem.message}")
        for path in found.gone:
            context.log.error(f"{path} is in the ledger and not in bronze. Restore it from a backup.")

    @dg.job(name=f"reconcile_silver_{name}", tags={LAYER_TAG: "silver"}, description="Compares all of bronze with the ledger.")
    def reconcile_job() -> None:
        reconcile_op()

    return reconcile_job


def _progress(batch_id: str, report: LoadReport) -> str:
    return (
        f"{batch_id}: {len(report.loaded)} items loaded, {len(report.failed)} failed, "
        f"{report.total('silver_rows_read')} records in {report.seconds:.2f} s"
    )
