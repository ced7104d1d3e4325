"""What is posted to the webhook: what became late or well again (`ops.verdicts`), and which runs failed, of any layer.

Level-triggered, like the other sensors: each tick compares what is with what was posted (the cursor) and makes at most one post of
all that is new. The cursor moves only when the post was taken, so a webhook that is down costs nothing but time; what is older
than an hour by then is not told any more. Dagster's own run-failure sensor is not used: it goes on after a post that failed, and
it has no cursor in which to remember what it said of a run that fails again and again.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg
import msgspec

from medallion_defs.bronze.posting.webhook import post_text
from medallion_defs.core import clock, db
from medallion_defs.core.errors import MedallionError
from medallion_defs.core.sections import AlertSettings
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import format_duration
from medallion_defs.ops.cursors import decode_cursor, encode_cursor
from medallion_defs.ops.lateness import BLIND_AFTER, LAYERS, Finding, Verdict, judge_watch, read_verdicts
from medallion_defs.ops.run_requests import WORK_TAG

_LOOK_BACK = timedelta(hours=1)
_MOST_RUNS = 100
_MOST_LINES = 20
_MOST_CHARACTERS = 500


class FailedRun(msgspec.Struct, frozen=True):
    """A run that failed. `work`: what it was at, `silver/driver_events`; runs for the same thing are told of together."""

    run_id: str
    work: str
    error: str
    failed_at: datetime


class Told(msgspec.Struct, frozen=True, array_like=True):
    """What was last posted of a finding (`silver/driver_events silent`): when it began, and whether it still is so."""

    at: datetime
    is_on: bool


class Posted(msgspec.Struct, frozen=True):
    """What was posted so far: the sensor's cursor.

    Attributes:
        findings: by subject and kind.
        runs: work → the failure that was last posted.
        awake_since, ticked_at: since when this sensor ticks without a pause, and its last tick.
    """

    findings: dict[str, Told] = {}
    runs: dict[str, datetime] = {}
    awake_since: datetime | None = None
    ticked_at: datetime | None = None


class Post(msgspec.Struct, frozen=True):
    """What is to be posted now, line by line, and what has been posted then."""

    lines: tuple[str, ...]
    posted: Posted

    @property
    def text(self) -> str:
        more = len(self.lines) - _MOST_LINES
        return "\n".join([*self.lines[:_MOST_LINES], *([f"… and {more} more; see 'medallion status' and the page"] if more > 0 else [])])


def decide_post(verdicts: Sequence[Verdict], failures: Sequence[FailedRun], posted: Posted, options: AlertSettings, now: datetime) -> Post:
    """Say what is new: once when it begins, once when it is over, and no thing more often than `min_interval`."""
    was_awake = posted.ticked_at is not None and now - posted.ticked_at < BLIND_AFTER
    awake_since = posted.awake_since if was_awake and posted.awake_since else now
    unwatched = _find_unwatched(verdicts, posted.findings, awake_since, now)
    late, findings = _decide_findings([*verdicts, *unwatched], posted.findings, options.min_interval, now)
    failed, runs = _decide_runs(failures, posted.runs, options, now)
    return Post((*late, *failed), Posted(findings, runs, awake_since, now))


def _find_unwatched(verdicts: Sequence[Verdict], told: Mapping[str, Told], awake_since: datetime, now: datetime) -> list[Verdict]:
    """Return the layers at which nobody looks, although this sensor ticks: a code location that does not load says nothing.

    After a pause, when nobody can have looked, what was told before holds until there was time for a look.
    """
    if now - awake_since < BLIND_AFTER:
        still = [layer for layer in LAYERS if (one := told.get(f"{layer} unwatched")) and one.is_on]
        return [Verdict(layer, (Finding("unwatched", ""),), now) for layer in still]
    return [Verdict(layer, findings, now) for layer in LAYERS if (findings := judge_watch((layer,), verdicts, now))]


def _decide_findings(
    verdicts: Sequence[Verdict], told: Mapping[str, Told], min_interval: timedelta, now: datetime
) -> tuple[list[str], dict[str, Told]]:
    present = {f"{verdict.subject} {finding.kind}": finding.sentence for verdict in verdicts for finding in verdict.findings}
    lines: list[str] = []
    # What was over long enough ago is forgotten.
    after = {key: one for key, one in told.items() if one.is_on or now - one.at < min_interval}
    for key, sentence in present.items():
        if key not in after:
            lines.append(f":warning: {escape_text(sentence)}")
            after[key] = Told(now, True)
        elif not after[key].is_on:
            continue  # it comes and goes: told again when the interval is over
    for key, one in after.items():
        if one.is_on and key not in present:
            subject, kind = key.split(" ")
            lines.append(f":white_check_mark: {subject} is not {kind} any more, after {format_duration(now - one.at)}.")
            after[key] = Told(one.at, False)
    return lines, after


def _decide_runs(
    failures: Sequence[FailedRun], told: Mapping[str, datetime], options: AlertSettings, now: datetime
) -> tuple[list[str], dict[str, datetime]]:
    after = {work: at for work, at in told.items() if now - at < max(options.min_interval, _LOOK_BACK)}
    lines: list[str] = []
    for work in sorted({run.work for run in failures}):
        runs = sorted((run for run in failures if run.work == work), key=lambda run: run.failed_at)
        latest = runs[-1]
        if work in after and latest.failed_at - after[work] < options.min_interval:
            continue
        link = f"<{str(options.ui_url).rstrip('/')}/runs/{latest.run_id}|{latest.run_id}>" if options.ui_url else latest.run_id
        times = "" if len(runs) == 1 else f" ({len(runs)} runs within {format_duration(_LOOK_BACK)}; this is the last)"
        lines.append(f":x: {work}: run {link} failed{times}. {escape_text(latest.error[:_MOST_CHARACTERS])}")
        after[work] = latest.failed_at
    return lines, after


def build_alerts() -> dg.Definitions:
    """Return the sensor that posts. Without a webhook it skips and asks nobody anything."""

    @dg.sensor(
        name="send_alerts",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"settings"},
        description="Posts what is late and which runs failed to the webhook of `alerts.webhook_url`, where there is one.",
    )
    def alerts_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings: Settings = context.resources.settings
        options, now, cursor = settings.alerts, clock.now(), context.cursor
        if options.webhook_url is None:
            return dg.SensorResult(skip_reason="no webhook is set (alerts.webhook_url)", cursor=cursor)
        with db.connect(settings, "medallion_bronze") as connection:
            verdicts = read_verdicts(connection)
        post = decide_post(
            verdicts, read_failed_runs(context.instance, now - _LOOK_BACK), decode_cursor(cursor, Posted) or Posted(), options, now
        )
        if post.lines:
            try:
                answer = post_text(options.webhook_url.get_secret_value(), post.text)
            except MedallionError as error:
                context.log.warning(f"{error}. Tried again at the next tick.")
                return dg.SensorResult(skip_reason=str(error), cursor=cursor)
            context.log.info(f"The webhook answered {answer}")
        return dg.SensorResult(skip_reason=f"{len(post.lines)} posted", cursor=encode_cursor(post.posted))

    return dg.Definitions(sensors=[alerts_sensor])


def read_failed_runs(instance: dg.DagsterInstance, since: datetime) -> list[FailedRun]:
    """Return the latest runs of all code locations that failed after `since`, at most 100."""
    wanted = dg.RunStatusChangeRecordsFilter(event_type=dg.DagsterEventType.RUN_FAILURE, after_timestamp=since.timestamp())
    found = []
    for record in instance.fetch_run_status_changes(wanted, limit=_MOST_RUNS).records:
        entry = record.event_log_entry
        run = instance.get_run_by_id(entry.run_id)
        if run is not None:
            at = datetime.fromtimestamp(entry.timestamp, UTC)
            found.append(FailedRun(run.run_id, name_work(run.tags.get(WORK_TAG), run.job_name), explain_failure(entry.dagster_event), at))
    return found


def escape_text(text: str) -> str:
    """Make text harmless: in a Slack message, <!channel> calls everybody, and an error may quote what a file holds."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def name_work(tag: str | None, job_name: str) -> str:
    """Return what failures are told together by: layer and name, for the third part, the batch, changes with each attempt."""
    return "/".join(tag.split("/")[:2]) if tag else job_name


def explain_failure(event: dg.DagsterEvent | None) -> str:
    """Return the error that a step raised, without Dagster's wrapping; where none did (a killed worker), what Dagster says."""
    if event is None:
        return "Dagster gives no reason."
    # A run that the daemon reports as failed has no data, only a message.
    data = event.job_failure_data if event.event_specific_data is not None else None
    step = data.first_step_failure_event if data is not None else None
    told = step.step_failure_data.user_failure_data if step is not None else None
    if told is not None and told.description:
        return " ".join(told.description.split())
    error = step.step_failure_data.error if step is not None else data.error if data is not None else None
    while error is not None and error.cause is not None and (error.cls_name or "").startswith("Dagster"):
        error = error.cause
    return " ".join((error.message if error else event.message or "Dagster gives no reason.").split())
