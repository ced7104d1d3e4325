"""Silence is a signal: from facts, settings and the time to what is late, as sentences for a person.

A sensor that finds no work looks exactly like one that has no work to do. So each source says what is expected of it, the judges
here compare, and the last verdict on each source and gold table is kept in `ops.verdicts`: with the time of the look, so that
nobody looking is seen too. Who looks, and tells Dagster, is `watch.py`; who posts is bronze's `alerts.py`.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
import psycopg
from psycopg.rows import class_row

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sections import SourceSettings
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.core.timing import format_duration

LOOK_SECONDS = 60
LAYERS = ("bronze", "silver", "gold")
# Five looks missed: a restart takes less, and a daemon that is busy for so long is news.
BLIND_AFTER = timedelta(minutes=5)
_SQL = load_queries("medallion_defs.ops", "lateness.sql")


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it should be.

    Attributes:
        kind: `silent` (nothing comes), `behind` (what came waits too long), `failed` (what came waits for a person), `unwatched`
            (nothing looks), `broken` (the folder of a source or a task cannot be used), `outdated` (older code made it), `held` (a batch at
            a model waits for a person).
        sentence: what is wrong with what, and what to do.
    """

    kind: Literal["silent", "behind", "failed", "unwatched", "broken", "outdated", "held"]
    sentence: str

    @property
    def makes_late(self) -> bool:
        """Whether something is missing or waits too long. Of failed items another check tells, and they make nobody late."""
        return self.kind in ("silent", "behind")


class Verdict(msgspec.Struct, frozen=True):
    """What a look at one subject (`silver/driver_events`, `gold/driver_events_enriched`) found, and when that was."""

    subject: str
    findings: tuple[Finding, ...]
    looked_at: datetime

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(finding.kind for finding in self.findings)


class SourceFacts(msgspec.Struct, frozen=True):
    """What the ledger knows of a source.

    Attributes:
        arrived_at: when an item was last registered: the last tick that was not empty. None when there never was one.
        waiting: items on their way to silver.
        waits_since: since when the first of them waits, None when none does.
        dead, refused: items that wait for a person.
    """

    source_type: str
    arrived_at: datetime | None
    waiting: int
    waits_since: datetime | None
    dead: int
    refused: int


def expected_of(settings: Settings, subject: str, source: str) -> tuple[SourceSettings, tuple[Finding, ...]]:
    """Return the settings to judge a source by: the defaults, and a finding, where its own do not validate. Other sources are judged on."""
    try:
        return settings.source(source), ()
    except ConfigurationError as error:
        return SourceSettings(), (Finding("broken", f"{subject} is judged by the default settings: {error}."),)


def judge_source(facts: SourceFacts, options: SourceSettings, now: datetime) -> tuple[Finding, ...]:
    """Compare a source with what is expected of it."""
    judged = (_silence(facts, options.expect_every, now), _backlog(facts, options.max_lag, now), _failures(facts))
    return tuple(finding for finding in judged if finding is not None)


def judge_landing(name: str, files: int, waits_since: datetime | None, max_lag: timedelta, now: datetime) -> tuple[Finding, ...]:
    """Compare a landing folder that bronze empties with what still lies there, complete, the first file since `waits_since`."""
    if waits_since is None or now - waits_since <= max_lag:
        return ()
    text = (
        f"landing/{name}: {_count(files, 'complete file')} not taken, the first for {format_duration(now - waits_since)}; "
        f"{format_duration(max_lag)} is allowed. Look whether the sensor landing_{name} is on; the last run of bronze_{name} says why it "
        "left a file."
    )
    return (Finding("behind", text),)


def judge_waiting(subject: str, sensor: str, waits_since: datetime | None, max_lag: timedelta, now: datetime) -> tuple[Finding, ...]:
    """Compare what a source has ready with what was fetched: it waits since `waits_since`, for a run that `sensor` requests."""
    if waits_since is None or now - waits_since <= max_lag:
        return ()
    text = (
        f"{subject}: what had changed just before the last fetch waits for {format_duration(now - waits_since)}; "
        f"{format_duration(max_lag)} is allowed. Look whether the sensor {sensor} is on."
    )
    return (Finding("behind", text),)


def judge_feed(subject: str, waits_since: datetime | None, max_lag: timedelta, now: datetime) -> tuple[Finding, ...]:
    """Compare a gold table with the silver rows that it does not have yet, the first of which waits since `waits_since`."""
    if waits_since is None or now - waits_since <= max_lag:
        return ()
    name = subject.partition("/")[2]
    return (
        Finding(
            "behind",
            f"{subject}: silver rows wait for gold, the first for {format_duration(now - waits_since)}; {format_duration(max_lag)} is "
            f"allowed. Look at the runs of gold_{name}, and whether its sensor follow_{name} is on.",
        ),
    )


def judge_watch(layers: Iterable[str], verdicts: Sequence[Verdict], now: datetime) -> tuple[Finding, ...]:
    """Return a finding for each layer at which nobody has looked for five minutes: a dead daemon finds nothing late."""
    findings = []
    for layer in layers:
        looked_at = max((verdict.looked_at for verdict in verdicts if verdict.subject.startswith(f"{layer}/")), default=None)
        if looked_at is None or now - looked_at > BLIND_AFTER:
            when = "never has" if looked_at is None else f"has not for {format_duration(now - looked_at)}"
            text = (
                f"{layer}: its sensor watch_{layer} ticks every minute and {when}. If Medallion does not run, start it ('medallion up'); "
                f"if it does, see on the page whether the code location {layer} is loaded and its sensors are on."
            )
            findings.append(Finding("unwatched", text))
    return tuple(findings)


def _silence(facts: SourceFacts, expected: timedelta | None, now: datetime) -> Finding | None:
    if expected is None or (facts.arrived_at is not None and now - facts.arrived_at <= expected):
        return None
    since = "there never was an item" if facts.arrived_at is None else f"no new item for {format_duration(now - facts.arrived_at)}"
    name = facts.source_type
    return Finding(
        "silent",
        f"{name}: {since}; one is expected every {format_duration(expected)}. "
        f"Ask who delivers it; if files lie in landing/{name}, look whether the sensor landing_{name} is on.",
    )


def _backlog(facts: SourceFacts, max_lag: timedelta, now: datetime) -> Finding | None:
    if facts.waits_since is None or now - facts.waits_since <= max_lag:
        return None
    name = facts.source_type
    return Finding(
        "behind",
        f"{name}: {_count(facts.waiting, 'item')} on the way to silver, the first waits for {format_duration(now - facts.waits_since)}; "
        f"{format_duration(max_lag)} is allowed. Look at the runs of silver_{name}, and whether its sensor discover_{name} is on.",
    )


def _failures(facts: SourceFacts) -> Finding | None:
    counts = [f"{number} {word}" for number, word in ((facts.dead, "dead"), (facts.refused, "refused")) if number]
    if not counts:
        return None
    return Finding("failed", f"{facts.source_type}: items {' and '.join(counts)}; 'medallion status' says which and why.")


def _count(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number:,} {noun}s"


def read_source_facts(connection: psycopg.Connection[Any], sources: Iterable[str]) -> list[SourceFacts]:
    """Return the facts of the sources, by name. Takes time in proportion to what is open, not to what was ever loaded."""
    with connection.cursor(row_factory=class_row(SourceFacts)) as cursor:
        return cursor.execute(_SQL["source_facts"], {"sources": list(sources)}).fetchall()


def save_verdicts(connection: psycopg.Connection[Any], layer: str, verdicts: Sequence[Verdict]) -> None:
    """Keep the verdicts on all subjects of a layer, in the caller's transaction; those on others of the layer go."""
    subjects = [verdict.subject for verdict in verdicts]
    connection.execute(_SQL["delete_other_verdicts"], {"layer": layer, "subjects": subjects})
    for verdict in sorted(verdicts, key=lambda verdict: verdict.subject):
        findings = msgspec.json.encode(verdict.findings).decode()
        connection.execute(
            _SQL["save_verdict"], {"subject": verdict.subject, "findings": findings, "looked_at": verdict.looked_at}
        )  # fmt: skip


def read_verdicts(connection: psycopg.Connection[Any]) -> list[Verdict]:
    """Return the last verdict on each subject."""
    rows = connection.execute(_SQL["read_verdicts"]).fetchall()
    return [Verdict(subject, msgspec.convert(findings, tuple[Finding, ...]), looked_at) for subject, findings, looked_at in rows]
