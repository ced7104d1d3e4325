"""From an enrichment to Dagster: the gold asset, its checks, its sensor on the change feed, its backfill and its reconcile.

Thin: what a run does is `enrich_run.py`. The sensor's cursor is a hint; what is open is read from the data.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from pydantic import Field

from medallion_defs.core import clock, db
from medallion_defs.core.sections import GoldSettings
from medallion_defs.core.settings import Settings
from medallion_defs.gold.contract import Enrichment
from medallion_defs.gold.enrich_run import EnrichReport, run_scope, run_work
from medallion_defs.gold.feed import Work, plan
from medallion_defs.gold.lateness import look_at_feeds
from medallion_defs.gold.reconcile import measure
from medallion_defs.gold.report import column_lineage, describe, read_gold_manifest
from medallion_defs.ops.cursors import Position, note_cursor, read_cursor
from medallion_defs.ops.dagster_asset import data_version, is_synced, plain_failures, skippable_asset
from medallion_defs.ops.run_requests import LAYER_TAG, request_run, requested_work
from medallion_defs.ops.scope import SCOPE_HELP, RunScope, parse_scope, require_match
from medallion_defs.ops.scope_config import DatasetScopeConfig
from medallion_defs.ops.watch import build_checks

UNMATCHED = "unmatched_share"


class EnrichConfig(DatasetScopeConfig):
    """What a gold run makes. The sensor sets nothing: the range of the change feed that it hands out is in the run's tags."""

    scope: RunScope = Field(
        RunScope.pending,
        description=f"{SCOPE_HELP}; dataset, with the field dataset. Rows in the scope are compared with silver and repaired.",
    )


def build_gold(enrichment: Enrichment) -> dg.Definitions:
    """Return everything that gold runs for one enrichment. Touches neither disk nor database."""
    asset = _build_asset(enrichment)
    on_time = build_checks("gold", enrichment.name, "medallion_gold", look_at_feeds([enrichment]))
    job = dg.define_asset_job(
        f"gold_{enrichment.name}",
        selection=[asset],
        tags={LAYER_TAG: "gold"},
        description=f"Brings {enrichment.qualified_name} up to date: with the range that its sensor hands out, with all that the "
        "change feed has, or, with a scope in the launchpad, by comparing gold with silver.",
    )
    return dg.Definitions(
        assets=[asset],
        asset_checks=[on_time],
        jobs=[job],
        sensors=[_build_sensor(enrichment)],
        schedules=[
            _build_scope_all(enrichment, "backfill", "0 4 * * 0", dg.DefaultScheduleStatus.STOPPED),
            # What the feed cannot see: a silver row deleted by hand, a table restored from an older copy.
            _build_scope_all(enrichment, "reconcile", "37 2 * * *", dg.DefaultScheduleStatus.RUNNING),
        ],
    )


def do_work(
    settings: Settings, enrichment: Enrichment, config: EnrichConfig, run_id: str, range_text: str | None = None
) -> tuple[EnrichReport, Mapping[str, int | str]]:
    """Do what the sensor, in `range_text`, or a person, in `config`, asks for; return with it what was asked, as metadata.

    Raises:
        ConfigurationError: the range or the scope is not complete; the message says what is missing.
        NothingMatchesError: a part of history was named, and there is nothing in it.
    """
    scope = parse_scope(config.scope, config.since, config.file_ids, config.dataset)
    if config.scope is RunScope.pending:
        return run_work(settings, enrichment, run_id, Work.from_text(range_text) if range_text else None), {}
    with db.connect(settings, "medallion_gold") as connection:
        extent = measure(connection, enrichment, scope)
    silver = " or ".join(f"silver.{table}" for table in enrichment.inputs)
    require_match(extent.rows, scope, f"row of {silver}; 'medallion ops files' shows the items that they come from")
    asked: dict[str, int | str] = {"scope": str(scope), "rows_matched": extent.rows, "items_matched": extent.items}
    return run_scope(settings, enrichment, run_id, scope), asked


def _build_asset(enrichment: Enrichment) -> dg.AssetsDefinition:
    key = dg.AssetKey(["gold", enrichment.name])
    inputs = [dg.AssetKey(["silver", table]) for table in enrichment.inputs]
    columns = [dg.TableColumn(column.name, str(column.type), description=column.comment) for column in enrichment.table.columns]
    spec = dg.AssetSpec(
        key,
        deps=inputs,
        group_name=enrichment.domain,
        kinds={"postgres", "gold"},
        tags={LAYER_TAG: "gold"},
        owners=list(enrichment.owners),
        description=f"{enrichment.title}; `{enrichment.qualified_name}`. {enrichment.description}\n\n"
        "Materialize makes what the change feed has; `scope: all | since | dataset | file_ids` compares gold with silver and "
        "repairs it.",
        metadata={"dagster/table_name": enrichment.qualified_name, "dagster/column_schema": dg.TableSchema(columns)},
    )
    check = dg.AssetCheckSpec(UNMATCHED, asset=key, description="few enough rows name a lookup row that is not known")

    @skippable_asset(spec, [check], pool=f"gold_{enrichment.name}")
    def gold_asset(context: dg.AssetExecutionContext, config: EnrichConfig) -> Iterator[dg.MaterializeResult[Any]]:
        settings: Settings = context.resources.settings
        with plain_failures():
            work = requested_work(context.run, f"gold/{enrichment.name}")
            report, asked = do_work(settings, enrichment, config, context.run.run_id, work)
            if not asked and not report.has_changed_rows and is_synced(context.instance, key, inputs):
                context.log.info(f"{enrichment.qualified_name} has everything that silver has. To compare the two, choose a scope.")
                return
            manifest = read_gold_manifest(settings, enrichment, context.run.run_id, report)
            yield dg.MaterializeResult(
                metadata=describe(report, manifest, asked) | column_lineage(enrichment),
                check_results=[check_unmatched(report, settings.gold)],
                data_version=data_version(context.instance, context.run.run_id, key, is_changed=report.has_changed_rows),
            )

    return gold_asset


def _build_sensor(enrichment: Enrichment) -> dg.SensorDefinition:
    name = enrichment.name
    sensor_name = f"follow_{name}"

    @dg.sensor(
        name=sensor_name,
        job_name=f"gold_{enrichment.name}",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"settings"},
        description=f"Follows the change feed of silver.{' and silver.'.join(enrichment.inputs)}; requests one run per range.",
    )
    def follow_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings: Settings = context.resources.settings
        with db.connect(settings, "medallion_gold") as connection:
            seen: int | None = read_cursor(connection, sensor_name, context.cursor, Position)
            found = plan(connection, enrichment, seen or 0, settings.gold.max_rows)
            cursor = note_cursor(connection, sensor_name, found.positions.lookup)
        if found.work is None:
            return dg.SensorResult(skip_reason=f"gold/{name} has everything", cursor=cursor)
        request = request_run(
            context.instance,
            work_name(name, found.work),
            settings.gold.retry_seconds,
            clock.now(),
            again_after_success=True,
        )
        if isinstance(request, str):
            return dg.SensorResult(skip_reason=f"gold/{name}: {request}", cursor=cursor)
        return dg.SensorResult(run_requests=[request], cursor=cursor)

    return follow_sensor


def _build_scope_all(enrichment: Enrichment, verb: str, cron: str, status: dg.DefaultScheduleStatus) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{verb}_gold_{enrichment.name}",
        job_name=f"gold_{enrichment.name}",
        cron_schedule=cron,
        default_status=status,
        description="Compares all of gold with silver and repairs what differs, in chunks; a retry skips what is right.",
    )
    def scope_all(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        at = context.scheduled_execution_time.isoformat()
        return dg.RunRequest(run_key=at, run_config={"ops": {f"gold__{enrichment.name}": {"config": {"scope": RunScope.all.name}}}})

    return scope_all


def check_unmatched(report: EnrichReport, settings: GoldSettings) -> dg.AssetCheckResult:
    """Fail when too many rows name a lookup row that nobody knows, and say which."""
    unmatched = report.unmatched
    worst = ", ".join(f"{key} ({rows})" for key, rows in list(unmatched.missing.items())[:10])
    return dg.AssetCheckResult(
        check_name=UNMATCHED,
        passed=unmatched.share <= settings.max_unmatched_share,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"share": unmatched.share, "limit": settings.max_unmatched_share, "rows": unmatched.unmatched_rows, "most_missing": worst},
    )


def work_name(name: str, work: Work) -> str:
    """Return the name that runs for this work carry as a tag."""
    return f"gold/{name}/{work.text}"
