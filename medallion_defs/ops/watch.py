"""From looks at sources and gold tables to Dagster: the sensor `watch_{layer}` and the asset check `on_time`.

The sensor starts no run. It keeps every verdict in `ops.verdicts`, and evaluates a check when its verdict changes, when the asset was
materialized since (the page forgets older evaluations then), and once an hour, so that the history of a check stays readable. The
check can also be executed by hand; no job runs it.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec
import psycopg

from medallion_defs.core import clock, db
from medallion_defs.core.markdown import Markdown, escape
from medallion_defs.core.settings import Settings
from medallion_defs.ops.cursors import note_cursor, read_cursor
from medallion_defs.ops.lateness import LOOK_SECONDS, Verdict, save_verdicts

ON_TIME = "on_time"
_REPEAT_AFTER = timedelta(hours=1)


class Look(msgspec.Struct, frozen=True):
    """A verdict with the numbers behind it; `position` is handed to the next look at the subject."""

    verdict: Verdict
    metadata: Mapping[str, int | float | str]
    position: int = 0


class Reported(msgspec.Struct, frozen=True, array_like=True):
    """What the check of a subject last said, when, and the look's position: the sensor's cursor, by subject."""

    kinds: tuple[str, ...]
    at: datetime
    position: int


Looker = Callable[[psycopg.Connection, Settings, Mapping[str, int], datetime], list[Look]]
"""Looks at all subjects of a layer. The mapping has the last position by subject; 0 costs time and is never wrong."""


def build_watch(layer: str, role: db.Role, look: Looker) -> dg.Definitions:
    """Return the sensor of one layer."""
    name = f"watch_{layer}"

    @dg.sensor(
        name=name,
        minimum_interval_seconds=LOOK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"settings"},
        description=f"Looks once a minute whether anything in {layer} is late; evaluates the checks `{ON_TIME}`. Starts no run.",
    )
    def watch_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings: Settings = context.resources.settings
        now = clock.now()
        with db.connect(settings, role) as connection:
            reported: dict[str, Reported] = read_cursor(connection, name, context.cursor, dict[str, Reported]) or {}
            looks = look(connection, settings, {subject: last.position for subject, last in reported.items()}, now)
            save_verdicts(connection, layer, [look.verdict for look in looks])
            due = [look for look in looks if _is_due(context.instance, look, reported)]
            cursor = note_cursor(connection, name, now_reported(looks, due, reported))
        sentences = [finding.sentence for look in looks for finding in look.verdict.findings]
        return dg.SensorResult(
            asset_events=[_evaluation(look) for look in due],
            cursor=cursor,
            skip_reason=" ".join(sentences) or f"{layer}: {len(looks)} looked at, nothing late",
        )

    return dg.Definitions(sensors=[watch_sensor])


def build_check(layer: str, name: str, role: db.Role, look: Looker) -> dg.AssetChecksDefinition:
    """Return the check `on_time` of one asset, for a person who wants to know now. `look` looks at this asset alone."""

    @dg.asset_check(
        asset=[layer, name],
        name=ON_TIME,
        required_resource_keys={"settings"},
        description=f"nothing is missing and nothing waits too long; evaluated by the sensor watch_{layer}",
    )
    def on_time(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        settings: Settings = context.resources.settings
        with db.connect(settings, role) as connection:
            [found] = look(connection, settings, {}, clock.now())
        return dg.AssetCheckResult(
            passed=found.verdict.is_on_time, severity=dg.AssetCheckSeverity.WARN, description=_describe(found), metadata=found.metadata
        )

    return on_time


def is_due(verdict: Verdict, last: Reported | None, materialized_at: datetime | None = None) -> bool:
    """Whether the check has something new to say, is of before the latest materialization, or has not said anything for an hour."""
    if last is None or last.kinds != verdict.kinds or verdict.looked_at - last.at >= _REPEAT_AFTER:
        return True
    return materialized_at is not None and materialized_at > last.at


def now_reported(looks: Sequence[Look], due: Sequence[Look], reported: Mapping[str, Reported]) -> dict[str, Reported]:
    """Return the cursor after these looks, of which `due` are reported."""
    now = {look.verdict.subject: look.verdict.looked_at for look in due}
    return {
        (subject := look.verdict.subject): Reported(look.verdict.kinds, now.get(subject) or reported[subject].at, look.position)
        for look in looks
    }


def _is_due(instance: dg.DagsterInstance, look: Look, reported: Mapping[str, Reported]) -> bool:
    subject = look.verdict.subject
    return is_due(look.verdict, reported.get(subject), _materialized_at(instance, subject))


def _materialized_at(instance: dg.DagsterInstance, subject: str) -> datetime | None:
    event = instance.get_latest_materialization_event(dg.AssetKey(subject.split("/")))
    return None if event is None else datetime.fromtimestamp(event.timestamp, UTC)


def _evaluation(look: Look) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(look.verdict.subject.split("/")),
        check_name=ON_TIME,
        passed=look.verdict.is_on_time,
        severity=dg.AssetCheckSeverity.WARN,
        description=_describe(look),
        metadata=look.metadata,
    )


def _describe(look: Look) -> Markdown:
    # A sentence may hold the name of a file, and the page renders a description.
    return escape(" ".join(finding.sentence for finding in look.verdict.findings) or "on time")
