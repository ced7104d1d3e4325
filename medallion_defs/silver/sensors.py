"""The silver sensor of one source: discover what is new in bronze, then hand it out as the source's parallelism says."""

import dagster as dg

from medallion_defs.core import db
from medallion_defs.core.settings import Settings
from medallion_defs.ops.cursors import note_cursor, read_cursor
from medallion_defs.ops.hand_out import HandOut, Tick
from medallion_defs.silver.discovery import Discovery, discover
from medallion_defs.silver.load_run import SilverContent
from medallion_defs.silver.parallelism import Parallelism
from medallion_defs.storage.readers import open_reader
from medallion_defs.storage.reading import Cursor

# Dagster gives a tick 60 s; a sensor that takes longer than its interval delays everybody else's.
BUDGET_SECONDS = 3.0


def build_sensor(content: SilverContent, parallelism: Parallelism) -> dg.SensorDefinition:
    """Return the sensor of one source."""
    name = content.source.name
    sensor_name = f"discover_{name}"

    @dg.sensor(
        name=sensor_name,
        job_name=f"silver_{name}",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"settings"},
        description=f"Looks for items in `data/bronze/{name}/` that silver has not read, and hands them out.",
    )
    def discover_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings: Settings = context.resources.settings
        with db.connect(settings, "medallion_silver") as connection:
            cursor: Cursor | None = read_cursor(connection, sensor_name, context.cursor, Cursor)
            found = discover(connection, open_reader(settings), name, cursor, settings.source(name).discovery, BUDGET_SECONDS)
            text = note_cursor(connection, sensor_name, found.cursor)
            connection.commit()
            out = parallelism.hand_out(Tick(context, connection, name, settings.source(name), content.code))
        for problem in found.problems:
            context.log.warning(f"{problem.path}: {problem.message}")
        if out.refusal:
            context.log.error(out.refusal)
        return dg.SensorResult(
            run_requests=out.requests,
            dynamic_partitions_requests=out.partitions,
            cursor=text,
            skip_reason=None if out.requests else _idle(name, found, out),
        )

    return discover_sensor


def _idle(name: str, found: Discovery, out: HandOut) -> str:
    if out.refusal:
        return out.refusal
    more = "" if found.complete else "; the rest at the next tick"
    return f"silver/{name}: nothing to load ({found.mode}: {found.seen} looked at, {found.registered} new{more})"
