"""From an enrichment to Dagster: the gold asset, its checks, its sensor on the change feed, its backfill and its reconcile.

Thin: what a run does is `enrich_run.py`. The sensor's cursor is a hint; what is open is read from the data.
"""

from collections.abc import Mapping

import dagster as dg
from pydantic import Field

from medallion_defs.core import clock, db
from medallion_defs.core.sections import GoldSettings
from medallion_defs.core.settings import Settings
from medallion_defs.gold.contract import Enrichment
from medallion_defs.gold.enrich_run import EnrichReport, run_scope, run_work
from medallion_defs.gold.feed import Work, plan
from medallion_defs.gold.lateness import look_at_feeds
from medallion_defs.gold.report import column_lineage, describe, read_gold_manifest
from medallion_defs.ops.cursors import Position, note_cursor, read_cursor
from medallion_defs.ops.run_requests import LAYER_TAG, request_run
from medallion_defs.ops.scope import RunScope, parse_scope
from medallion_defs.ops.watch import build_check

UNMATCHED = "unmatched_share"


class EnrichConfig(dg.Config):
    """What a gold run makes. The sensor sets `work`, a range of the change feed; a person chooses a scope."""

    work: dict[str, int] = Field(default_factory=dict)
    scope: RunScope = RunScope.pending
    since: str | None = Field(None, description="With scope since: rows made of what was fetched from this time on.")
    file_ids: list[str] = Field(default_factory=list, description="With scope file_ids: rows made of these items.")
    dataset: str | None = Field(None, description="With scope dataset: rows made of such items; * and ? allowed.")


def build_gold(enrichment: Enrichment) -> dg.Definitions:
    """Return everything that gold runs for one enrichment. Touches neither disk nor database."""
    asset = _build_asset(enrichment)
    on_time = build_check("gold", enrichment.name, "medallion_gold", look_at_feeds([enrichment]))
    enriching = dg.AssetSelection.assets(asset) - dg.AssetSelection.checks(on_time)
    job = dg.define_asset_job(f"gold_{enrichment.name}", selection=enriching, tags={LAYER_TAG: "gold"})
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


def run_config_for(config: EnrichConfig, settings: Settings, enrichment: Enrichment, run_id: str) -> EnrichReport:
    """Do what the run's configuration asks for.

    Raises:
        ConfigurationError: the work or the scope is not complete; the message says what is missing.
    """
    if config.work:
        return run_work(settings, enrichment, run_id, Work.from_config(config.work))
    scope = parse_scope(config.scope, config.since, config.file_ids, config.dataset)
    if config.scope is RunScope.pending:
        return run_work(settings, enrichment, run_id, None)
    return run_scope(settings, enrichment, run_id, scope)


def _build_asset(enrichment: Enrichment) -> dg.AssetsDefinition:
    key = ["gold", enrichment.name]

    @dg.asset(
        key=key,
        deps=[["silver", table] for table in enrichment.inputs],
        group_name=enrichment.domain,
        kinds={"postgres", "gold"},
        tags={LAYER_TAG: "gold"},
        owners=list(enrichment.owners),
        description=f"{enrichment.title}; `{enrichment.qualified_name}`. {enrichment.description}\n\n"
        "Materialize makes what the change feed has; `scope: all | since | dataset | file_ids` compares gold with silver and "
        "repairs it.",
        metadata={
            "dagster/table_name": enrichment.qualified_name,
            "dagster/column_schema": dg.TableSchema(
                [dg.TableColumn(column.name, str(column.type), description=column.comment) for column in enrichment.table.columns]
            ),
        },
        check_specs=[dg.AssetCheckSpec(UNMATCHED, asset=key, description="few enough rows name a lookup row that nobody knows")],
        required_resource_keys={"settings"},
        pool=f"gold_{enrichment.name}",
    )
    def gold_asset(context: dg.AssetExecutionContext, config: EnrichConfig) -> dg.MaterializeResult:  # type: ignore[type-arg]  # with checks, Dagster takes only the bare class
        settings: Settings = context.resources.settings
        report = run_config_for(config, settings, enrichment, context.run.run_id)
        return dg.MaterializeResult(
            metadata=describe(report, read_gold_manifest(settings, enrichment, context.run.run_id, report)) | column_lineage(enrichment),
            check_results=[check_unmatched(report, settings.gold)],
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
            context.instance, work_name(name, found.work), settings.gold.retry_seconds, clock.now(),
            run_config=_op_config(name, {"work": found.work.to_config()}), again_after_success=True,
        )  # fmt: skip
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
        return dg.RunRequest(run_key=at, run_config=_op_config(enrichment.name, {"scope": RunScope.all.name}))

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
    values = "-".join(str(value) for value in work.to_config().values())
    return f"gold/{name}/{values}"


def _op_config(name: str, config: Mapping[str, object]) -> dict[str, object]:
    return {"ops": {f"gold__{name}": {"config": dict(config)}}}
