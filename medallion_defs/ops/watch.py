"""From looks at sources and gold tables to Dagster: the sensor `watch_{layer}` and the asset checks that a look answers.

Every subject has the check `on_time`; a look may answer more. The checks are a step of each run that materialized the asset,
and can be executed by hand. The sensor starts no run. It keeps every verdict in `ops.verdicts`, and evaluates the checks of a subject
when an answer changes, when the asset was materialized since (the page forgets older evaluations then), and once an hour, so
that the history of a check stays readable.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import msgspec
import psycopg

from medallion_defs.core import clock, db
from medallion_defs.core.markdown import Markdown, escape
from medallion_defs.core.settings import Settings
from medallion_defs.ops.cursors import note_cursor, read_cursor
from medallion_defs.ops.dagster_asset import plain_failures
from medallion_defs.ops.lateness import LOOK_SECONDS, Verdict, save_verdicts

ON_TIME = "on_time"
_REPEAT_AFTER = timedelta(hours=1)


@dataclass(frozen=True)
class Answer:
    """What one check says now. `description`: the page renders it. `state`: changes when the check says something else."""

    check_name: str
    passed: bool
    severity: dg.AssetCheckSeverity
    description: Markdown
    metadata: Mapping[str, Any]
    state: str


@dataclass(frozen=True)
class Look:
    """A verdict with the numbers behind it, and the answers of further checks.

    `position` is handed to the next look at the subject.
    """

    verdict: Verdict
    metadata: Mapping[str, int | float | str]
    position: int = 0
    more: tuple[Answer, ...] = ()

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The answers of all checks of the subject, `on_time` first."""
        late = [finding.sentence for finding in self.verdict.findings if finding.makes_late]
        words = escape(" ".join(late) or "on time")  # a sentence may hold the name of a file
        on_time = Answer(ON_TIME, not late, dg.AssetCheckSeverity.WARN, words, self.metadata, " ".join(self.verdict.kinds))
        return (on_time, *self.more)

    @property
    def states(self) -> tuple[str, ...]:
        """What the checks say, for the comparison with what they said before."""
        return tuple(answer.state for answer in self.answers)


class Reported(msgspec.Struct, frozen=True, array_like=True):
    """What the checks of a subject last said, when, and the look's position: the sensor's cursor, by subject."""

    states: tuple[str, ...]
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
        description=f"Looks once a minute whether anything in {layer} is late or has failed; evaluates its checks. Starts no run.",
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
            asset_events=[_evaluation(look.verdict.subject, answer) for look in due for answer in look.answers],
            cursor=cursor,
            skip_reason=" ".join(sentences) or f"{layer}: {len(looks)} looked at, nothing late",
        )

    return dg.Definitions(sensors=[watch_sensor])


def build_checks(layer: str, name: str, role: db.Role, look: Looker, more: Mapping[str, str] | None = None) -> dg.AssetChecksDefinition:
    """Return the checks of one asset: `on_time`, and those in `more` (name → description). `look` looks at this asset alone."""
    key = dg.AssetKey([layer, name])
    described = {ON_TIME: f"nothing is missing and nothing waits too long; also evaluated by the sensor watch_{layer}", **(more or {})}

    @dg.multi_asset_check(
        # The name of the step; of the checks, on_time was there first.
        name=f"{layer}__{name}_{ON_TIME}",
        specs=[dg.AssetCheckSpec(check, asset=key, description=words) for check, words in described.items()],
        can_subset=True,
        required_resource_keys={"settings"},
    )
    def checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        settings: Settings = context.resources.settings
        wanted = {check.name for check in context.selected_asset_check_keys}
        with plain_failures(), db.connect(settings, role) as connection:
            [found] = look(connection, settings, {}, clock.now())
            for one in found.answers:
                if one.check_name in wanted:
                    yield dg.AssetCheckResult(
                        asset_key=key, check_name=one.check_name, passed=one.passed, severity=one.severity,
                        description=escape(one.description), metadata=one.metadata,
                    )  # fmt: skip

    return checks


def is_due(look: Look, last: Reported | None, materialized_at: datetime | None = None) -> bool:
    """Whether a check has something new to say, is of before the latest materialization, or has not said anything for an hour."""
    if last is None or last.states != look.states or look.verdict.looked_at - last.at >= _REPEAT_AFTER:
        return True
    return materialized_at is not None and materialized_at > last.at


def now_reported(looks: Sequence[Look], due: Sequence[Look], reported: Mapping[str, Reported]) -> dict[str, Reported]:
    """Return the cursor after these looks, of which `due` are reported."""
    now = {look.verdict.subject: look.verdict.looked_at for look in due}
    return {
        (subject := look.verdict.subject): Reported(look.states, now.get(subject) or reported[subject].at, look.position) for look in looks
    }


def _is_due(instance: dg.DagsterInstance, look: Look, reported: Mapping[str, Reported]) -> bool:
    subject = look.verdict.subject
    return is_due(look, reported.get(subject), _materialized_at(instance, subject))


def _materialized_at(instance: dg.DagsterInstance, subject: str) -> datetime | None:
    event = instance.get_latest_materialization_event(dg.AssetKey(subject.split("/")))
    return None if event is None else datetime.fromtimestamp(event.timestamp, UTC)


def _evaluation(subject: str, answer: Answer) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=dg.AssetKey(subject.split("/")),
        check_name=answer.check_name,
        passed=answer.passed,
        severity=answer.severity,
        description=escape(answer.description),
        metadata=answer.metadata,
    )
