"""From a source's content folder to Dagster: the silver asset, its checks, its backfill schedule and the hourly reconcile.

Thin: which batches to load is `wanted.py`, loading is `load_run.py`, history `backfill.py`. The sensor is in `sensors.py`,
one run for many items or for one in `parallelism.py`.
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import dagster as dg

from medallion_defs.core import db
from medallion_defs.core.sections import ParallelismKind
from medallion_defs.core.settings import Settings
from medallion_defs.ops.dagster_asset import data_version, is_synced, plain_failures, skippable_asset
from medallion_defs.ops.dagster_runs import ending_of
from medallion_defs.ops.failing import DESCRIPTION, NO_FAILED_ITEMS
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.run_requests import LAYER_TAG
from medallion_defs.ops.scope import RunScope
from medallion_defs.ops.watch import build_checks
from medallion_defs.silver.backfill import load_unless_in_use
from medallion_defs.silver.checks import check_results, check_specs, look_at_sources
from medallion_defs.silver.discovery import reconcile
from medallion_defs.silver.load_run import LoadReport, SilverContent, load_batch
from medallion_defs.silver.parallelism import Parallelism, choose_parallelism
from medallion_defs.silver.report import count_rows, describe_load, describe_reconciliation, read_silver_manifest
from medallion_defs.silver.sensors import build_sensor
from medallion_defs.silver.wanted import LoadConfig, Wanted, decide, explain_nothing, which_batches
from medallion_defs.storage.readers import open_reader


def build_silver(content: SilverContent, kind: ParallelismKind = "microbatch") -> dg.Definitions:
    """Return everything that silver runs for one source, in runs of the given kind. Touches neither disk nor database."""
    name = content.source.name
    parallelism = choose_parallelism(kind, name)
    asset = _build_asset(content, parallelism)
    checks = build_checks("silver", name, "medallion_silver", look_at_sources([name]), {NO_FAILED_ITEMS: DESCRIPTION})
    job = dg.define_asset_job(
        f"silver_{name}",
        selection=[asset],
        tags={LAYER_TAG: "silver"},
        description=f"Loads items of bronze/{name} into silver.{name}: what its sensor hands out, what is pending, or, with a "
        "scope in the launchpad, a part of history again.",
    )
    reconcile_job = _build_reconcile(content)
    return dg.Definitions(
        assets=[asset],
        asset_checks=[checks],
        jobs=[job, reconcile_job],
        sensors=[build_sensor(content, parallelism)],
        schedules=[
            _build_backfill(name),
            dg.ScheduleDefinition(
                name=f"reconcile_silver_{name}",
                job=reconcile_job,
                cron_schedule="17 * * * *",
                default_status=dg.DefaultScheduleStatus.RUNNING,
                description=f"Compares all of bronze/{name} with the ledger, hourly: what a sensor has missed is registered.",
            ),
        ],
    )


def _build_asset(content: SilverContent, parallelism: Parallelism) -> dg.AssetsDefinition:
    source, table = content.source, content.table
    spec = dg.AssetSpec(
        ["silver", source.name],
        deps=[["bronze", source.name]],
        group_name=source.domain,
        kinds={"postgres", "silver"},
        tags={LAYER_TAG: "silver"},
        owners=list(source.owners),
        description=f"{source.title}: typed, deduplicated, flagged; `{table.schema}.{table.name}`. {source.description}\n\n"
        f"{parallelism.on_materialize}",
        metadata={"dagster/table_name": f"{table.schema}.{table.name}", "dagster/column_schema": _column_schema(content)},
        partitions_def=parallelism.partitions,
    )

    @skippable_asset(spec, check_specs(source.name), pool=parallelism.pool)
    def silver_asset(context: dg.AssetExecutionContext, config: LoadConfig) -> Iterator[dg.MaterializeResult[Any]]:
        # Of a run that was requested before the setting was changed, only the tag is left.
        key = context.partition_key if parallelism.partitions and context.has_partition_key else None
        with plain_failures():
            yield from _load_and_tell(context, content, config, key)

    return silver_asset


def _load_and_tell(
    context: dg.AssetExecutionContext, content: SilverContent, config: LoadConfig, partition_key: str | None
) -> Iterator[dg.MaterializeResult[Any]]:
    settings: Settings = context.resources.settings
    wanted = decide(context, settings, content, config, partition_key)
    report = _load(context, settings, content, wanted)
    if not report.items:
        context.log.info(explain_nothing(settings, content, wanted))
        if not is_synced(context.instance, context.asset_key, [dg.AssetKey(["bronze", content.source.name])]):
            yield dg.MaterializeResult(data_version=data_version(context.instance, context.run.run_id, context.asset_key, is_changed=False))
        return
    for item in report.failed:
        # What is dead waits for a person; what is retrying does not.
        say = context.log.error if item.status == "dead" else context.log.warning
        say(f"{item.bronze_path} ({item.file_id}) is {item.status}: {_reason(item)}")
    size = count_rows(settings, content) if partition_key is None else None
    manifest = read_silver_manifest(settings, content, context.run.run_id)
    metadata = describe_load(report, manifest, wanted.describe(), size)
    if partition_key and report.failed:
        # Green would say that the item of this partition is in silver. The ledger tries again, not Dagster.
        raise dg.Failure(_reason(report.failed[0]), metadata=metadata, allow_retries=False)
    yield dg.MaterializeResult(
        metadata=metadata,
        check_results=check_results(report, settings.source(content.source.name)),
        data_version=_version(context, report, partition_key),
    )


def _load(context: dg.AssetExecutionContext, settings: Settings, content: SilverContent, wanted: Wanted) -> LoadReport:
    if wanted.before is not None:
        context.log.info(
            f"Scope {wanted.scope}: {wanted.matched:,} items match. To do the rest after a stop, launch this again with "
            f"before: '{wanted.before.isoformat()}'"
        )
    reports = []
    for batch_id in which_batches(settings, content, wanted):
        # A run for one batch must not end green when it did nothing; any other goes on with what is free.
        load = load_batch if wanted.is_one_batch else load_unless_in_use
        loaded = load(settings, content, batch_id, context.run.run_id, partial(ending_of, context.instance, context.run.run_id))
        if loaded is None:
            context.log.info(f"{batch_id} is being loaded by another run.")
            continue
        reports.append(loaded)
        context.log.info(_progress(batch_id, loaded))
    return LoadReport.merge(reports)


def _version(context: dg.AssetExecutionContext, report: LoadReport, partition_key: str | None) -> dg.DataVersion:
    if partition_key is None:
        return data_version(context.instance, context.run.run_id, context.asset_key, is_changed=report.has_changed_rows)
    # A partition is one item: what its rows are made of says whether they are the same.
    [item] = report.items
    return dg.DataVersion(f"{(item.content_sha256 or '')[:16]}-{item.code_version}")


def _reason(item: DatasetIngestion) -> str:
    return (item.silver_errors or {}).get("message", "")


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
        # No `before`: that is the run's own request. A tick that is previewed on the page lies in the future.
        at = context.scheduled_execution_time.isoformat()
        return dg.RunRequest(run_key=at, run_config={"ops": {f"silver__{name}": {"config": {"scope": RunScope.all.name}}}})

    return backfill


def _build_reconcile(content: SilverContent) -> dg.JobDefinition:
    name = content.source.name

    @dg.op(name=f"reconcile_{name}_with_ledger", required_resource_keys={"settings"})
    def reconcile_op(context: dg.OpExecutionContext) -> None:
        settings: Settings = context.resources.settings
        with db.connect(settings, "medallion_silver") as connection:
            found = reconcile(connection, open_reader(settings), name)
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
