"""From a source's content folder to Dagster: the silver asset, its checks, its backfill schedule and the hourly reconcile.

Thin: which batches to load is `which_batches`, loading is `load_run.py`, history `backfill.py`. The sensor is in `sensors.py`,
one run for many items or for one in `parallelism.py`.
"""

from collections.abc import Iterator
from datetime import datetime
from functools import partial

import dagster as dg
from pydantic import Field

from medallion_defs.core import clock, db
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sections import ParallelismKind
from medallion_defs.core.settings import Settings
from medallion_defs.ops.dagster_runs import ending_of
from medallion_defs.ops.ledger import Ledger
from medallion_defs.ops.ledger_values import Batch
from medallion_defs.ops.run_requests import LAYER_TAG, first_requested_at
from medallion_defs.ops.scope import RunScope, parse_scope, parse_time
from medallion_defs.ops.watch import build_check
from medallion_defs.silver.backfill import arrived, history_batches, load_unless_in_use
from medallion_defs.silver.checks import check_results, check_specs, look_at_sources
from medallion_defs.silver.discovery import discover, reconcile
from medallion_defs.silver.load_run import LoadReport, SilverContent, load_batch
from medallion_defs.silver.parallelism import Parallelism, choose_parallelism
from medallion_defs.silver.partitions import claim_partition
from medallion_defs.silver.report import describe_load, describe_reconciliation, read_silver_manifest
from medallion_defs.silver.sensors import build_sensor

_DISCOVERY_SECONDS = 30.0
_RETRY_TAG = "dagster/retry_number"


class LoadConfig(dg.Config):
    """What a silver run loads. The sensor sets `batch_id` and nothing else; a person chooses a scope."""

    batch_id: str | None = None
    scope: RunScope = RunScope.pending
    since: str | None = Field(None, description="With scope since: what was fetched from this time on.")
    file_ids: list[str] = Field(default_factory=list, description="With scope file_ids.")
    dataset: str | None = Field(None, description="With scope dataset: a dataset of a recipe, * and ? allowed.")
    before: str | None = Field(None, description="Only what was last processed before this time; default: when the run was requested.")


def build_silver(content: SilverContent, kind: ParallelismKind = "microbatch") -> dg.Definitions:
    """Return everything that silver runs for one source, in runs of the given kind. Touches neither disk nor database."""
    name = content.source.name
    parallelism = choose_parallelism(kind, name)
    asset = _build_asset(content, parallelism)
    on_time = build_check("silver", name, "medallion_silver", look_at_sources([name]))
    loading = dg.AssetSelection.assets(asset) - dg.AssetSelection.checks(on_time)
    job = dg.define_asset_job(f"silver_{name}", selection=loading, tags={LAYER_TAG: "silver"})
    reconcile_job = _build_reconcile(content)
    return dg.Definitions(
        assets=[asset],
        asset_checks=[on_time],
        jobs=[job, reconcile_job],
        sensors=[build_sensor(content, parallelism)],
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


def which_batches(
    settings: Settings, content: SilverContent, config: LoadConfig, requested_at: datetime, partition_key: str | None = None
) -> Iterator[str]:
    """Yield the ids of the batches to load, one at a time: the next is claimed when the one before is done.

    `batch_id`: that one. With a partition: its item. `pending`: what discovery finds, until nothing is left. The other scopes:
    history, chunk by chunk (`backfill.py`), and after each chunk what waits meanwhile for the asset's pool.

    Raises:
        ConfigurationError: the scope lacks its value, a value is none, or there is a partition as well; the message says which.
    """
    if config.batch_id:
        yield config.batch_id
        return
    scope = parse_scope(config.scope, config.since, config.file_ids, config.dataset, current_code=content.code)
    if partition_key is not None:
        _refuse_scope(config)
        yield claim_partition(settings, content, partition_key)
        return
    if config.scope is RunScope.pending:
        yield from _claim_pending(settings, content)
        return
    before = parse_time("before", config.before) if config.before else requested_at
    for batch_id in history_batches(settings, content, scope, before):
        yield batch_id
        # Runs for one item are held back by no pool: what waits is about to start by itself.
        if settings.source(content.source.name).parallelism == "microbatch":
            yield from arrived(settings, content)


def _refuse_scope(config: LoadConfig) -> None:
    if config.scope is not RunScope.pending:
        raise ConfigurationError(
            f"A partition is one item, and scope {config.scope.name} is a part of history. Leave the scope out, "
            "choose partitions on the page for a backfill, or run 'medallion backfill'."
        )


def _claim_pending(settings: Settings, content: SilverContent) -> Iterator[str]:
    name, options = content.source.name, settings.source(content.source.name)
    with db.connect(settings, "medallion_silver") as connection:
        discover(connection, settings.bronze_path, name, None, options.discovery, _DISCOVERY_SECONDS)
    while batches := _claim(settings, content):
        yield from (batch.batch_id for batch in batches)


def _claim(settings: Settings, content: SilverContent) -> list[Batch]:
    name = content.source.name
    with db.connect(settings, "medallion_silver") as connection:
        return Ledger(connection).claim(name, settings.source(name), content.code, clock.now())


def _build_asset(content: SilverContent, parallelism: Parallelism) -> dg.AssetsDefinition:
    source, table = content.source, content.table

    @dg.asset(
        key=["silver", source.name],
        deps=[["bronze", source.name]],
        group_name=source.domain,
        kinds={"postgres", "silver"},
        tags={LAYER_TAG: "silver"},
        owners=list(source.owners),
        description=f"{source.title}: typed, deduplicated, flagged; `{table.schema}.{table.name}`. {source.description}\n\n"
        f"{parallelism.on_materialize}",
        metadata={"dagster/table_name": f"{table.schema}.{table.name}", "dagster/column_schema": _column_schema(content)},
        check_specs=check_specs(source.name),
        required_resource_keys={"settings"},
        partitions_def=parallelism.partitions,
        pool=parallelism.pool,
    )
    def silver_asset(context: dg.AssetExecutionContext, config: LoadConfig) -> dg.MaterializeResult:  # type: ignore[type-arg]  # with checks, Dagster takes only the bare class
        settings: Settings = context.resources.settings
        # Of a run that was requested before the setting was changed, only the tag is left.
        key = context.partition_key if parallelism.partitions and context.has_partition_key else None
        if key and is_repeated_by_hand(context.run):
            config = config.model_copy(update={"batch_id": None})
        report = _load(context, settings, content, config, key)
        for item in report.failed:
            context.log.warning(f"{item.bronze_path} is {item.status}: {(item.silver_errors or {}).get('message')}")
        metadata = describe_load(report, read_silver_manifest(settings, content, context.run.run_id))
        if key and report.failed:
            # Green would say that the item of this partition is in silver. The ledger tries again, not Dagster.
            raise dg.Failure((report.failed[0].silver_errors or {}).get("message"), metadata=metadata, allow_retries=False)
        return dg.MaterializeResult(metadata=metadata, check_results=check_results(report, settings.source(source.name)))

    return silver_asset


def _load(
    context: dg.AssetExecutionContext, settings: Settings, content: SilverContent, config: LoadConfig, partition_key: str | None
) -> LoadReport:
    requested_at = first_requested_at(context.instance, context.run)
    if config.scope is not RunScope.pending:
        context.log.info(f"To do the rest after a stop, launch this again with before: {config.before or requested_at.isoformat()}")
    reports = []
    for batch_id in which_batches(settings, content, config, requested_at, partition_key):
        # A run for one batch must not end green when it did nothing; any other goes on with what is free.
        load = load_batch if config.batch_id or partition_key else load_unless_in_use
        loaded = load(settings, content, batch_id, context.run.run_id, partial(ending_of, context.instance, context.run.run_id))
        if loaded is None:
            context.log.info(f"{batch_id} is being loaded by another run.")
            continue
        reports.append(loaded)
        context.log.info(_progress(batch_id, loaded))
    return LoadReport.merge(reports)


def is_repeated_by_hand(run: dg.DagsterRun) -> bool:
    """Whether a person launched the run as a re-execution of another: its batch is done, and they want its item loaded again.

    Dagster's own retry goes on with the batch: it must not give an item that kills its workers new attempts.
    """
    return run.parent_run_id is not None and _RETRY_TAG not in run.tags


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
