"""Sends an OpenLineage event when a silver or gold run starts and ends: the sensor of the one process that may reach the network.

The runs know nothing of it: Dagster's event log, which they write anyway, is the queue. So nobody's endpoint can slow down or fail a
load, a run that was killed is told of as well, and what was not delivered is still there at the next tick. The cursor is the
storage id of the last delivered entry; it moves only when the receiver has answered, so an event can come twice, and never not at all.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import dagster as dg
import msgspec
import psycopg

from medallion_defs.core import clock, db
from medallion_defs.core.errors import TerminalError, TransientError
from medallion_defs.core.http_post import NoAnswerError, post
from medallion_defs.core.sections import OpenLineageSettings
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.ops.cursors import Position, decode_cursor, encode_cursor
from medallion_defs.ops.openlineage import Change, Column, Counts, EventType, Names, RunEvent, Work, build_events

_SQL = load_queries("medallion_defs.ops", "openlineage.sql")
_EVENT_TYPES: dict[dg.DagsterEventType, EventType] = {
    dg.DagsterEventType.RUN_START: "START",
    dg.DagsterEventType.RUN_SUCCESS: "COMPLETE",
    dg.DagsterEventType.RUN_FAILURE: "FAIL",
    dg.DagsterEventType.RUN_CANCELED: "ABORT",
}
_OF_RUN = {
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.STEP_FAILURE,
}  # fmt: skip
# Entries get their number before they are committed: one younger than this may still have a lower number coming behind it.
_SETTLE = timedelta(seconds=3)
_PAGE = 100
_TICK_SECONDS = 20.0
_MOST_BYTES = 500
_REFUSED_CODES = frozenset({400, 413, 422})
_OFF = "off"
_ENCODER = msgspec.json.Encoder()

Deliver = Callable[[bytes], None]


class Shipment(NamedTuple):
    """What one tick did. `cursor`: the last entry that is done with; `waiting`: why the next one is not delivered yet."""

    cursor: int
    sent: int
    refused: tuple[str, ...] = ()
    waiting: str | None = None


def build_openlineage() -> dg.Definitions:
    """Return the sensor. Without `openlineage.url` and `openlineage.file` it does nothing."""

    @dg.sensor(
        name="openlineage",
        minimum_interval_seconds=15,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"settings"},
        description="Sends START, COMPLETE, FAIL and ABORT events of silver and gold runs to `openlineage.url` or `openlineage.file`.",
    )
    def openlineage_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings: Settings = context.resources.settings
        if settings.openlineage.url is None and settings.openlineage.file is None:
            return dg.SensorResult(skip_reason="off: medallion.yaml sets neither openlineage.url nor openlineage.file", cursor=_OFF)
        cursor = decode_cursor(context.cursor, Position)
        if cursor is None:
            newest = newest_change(context.instance)
            return dg.SensorResult(skip_reason=f"switched on: events after entry {newest} are sent", cursor=encode_cursor(newest))
        shipment = ship(context.instance, settings, cursor, clock.now())
        for problem in shipment.refused:
            context.log.error(problem)
        if shipment.waiting:
            context.log.warning(f"OpenLineage: nothing is lost, all events after entry {shipment.cursor} wait. {shipment.waiting}")
        outcome = f"{shipment.sent} sent, {len(shipment.refused)} refused" + (f"; waiting: {shipment.waiting}" if shipment.waiting else "")
        return dg.SensorResult(skip_reason=outcome, cursor=encode_cursor(shipment.cursor))

    return dg.Definitions(sensors=[openlineage_sensor])


def newest_change(instance: dg.DagsterInstance) -> int:
    """Return the storage id of the latest start or end of a run; 0 when there was none."""
    pages = [instance.fetch_run_status_changes(kind, limit=1).records for kind in _EVENT_TYPES]
    return max((record.storage_id for page in pages for record in page), default=0)


def ship(instance: dg.DagsterInstance, settings: Settings, cursor: int, now: datetime) -> Shipment:
    """Deliver, in order, the events of what happened after `cursor`, until one is not taken or the tick's time is over.

    An event that the receiver refuses for what it says is kept in `data/openlineage/refused.jsonl`, and the next one follows: it would be
    refused for ever. For any other trouble, a wrong key among them, the event waits.

    Raises:
        TransientError: the database, asked for the columns of the tables, does not answer.
    """
    deliver, deadline = _delivery(settings), monotonic() + _TICK_SECONDS
    sent, refused = 0, list[str]()
    with db.connect(settings, "medallion_bronze", autocommit=True) as connection:
        for entry, change in read_changes(instance, cursor, now - _SETTLE):
            if monotonic() > deadline:
                break
            for event in _events_of(instance, connection, settings, change):
                try:
                    deliver(_ENCODER.encode(event))
                    sent += 1
                except TerminalError as error:
                    refused.append(_keep_refused(settings, event, error, now))
                except TransientError as error:
                    return Shipment(cursor, sent, tuple(refused), str(error))
            cursor = entry
    return Shipment(cursor, sent, tuple(refused))


def read_changes(instance: dg.DagsterInstance, after: int, until: datetime) -> Iterator[tuple[int, Change]]:
    """Yield (storage id, change) of runs that started or ended, in the order of the log, up to the time `until`."""
    filters = (
        dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_START, after_storage_id=after),
        dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_SUCCESS, after_storage_id=after),
        dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_FAILURE, after_storage_id=after),
        dg.RunStatusChangeRecordsFilter(dg.DagsterEventType.RUN_CANCELED, after_storage_id=after),
    )
    pages = [instance.fetch_run_status_changes(wanted, _PAGE, ascending=True).records for wanted in filters]
    # Beyond the end of a full page there may be entries of its kind that were not read.
    horizon = min((page[-1].storage_id for page in pages if len(page) == _PAGE), default=None)
    records = sorted((record for page in pages for record in page), key=lambda record: record.storage_id)
    for record in takewhile(lambda record: record.timestamp <= until.timestamp(), records):
        if horizon is None or record.storage_id <= horizon:
            yield record.storage_id, _read_change(record)


def _read_change(record: dg.EventLogRecord) -> Change:
    event = record.event_log_entry.get_dagster_event()
    at = datetime.fromtimestamp(record.timestamp, UTC)
    return Change(_EVENT_TYPES[event.event_type], at, record.run_id, record.event_log_entry.job_name or "", event.message)


def _events_of(instance: dg.DagsterInstance, connection: psycopg.Connection, settings: Settings, change: Change) -> Iterator[RunEvent]:
    entries = [
        record.event_log_entry.get_dagster_event() for record in instance.get_records_for_run(change.run_id, of_type=_OF_RUN).records
    ]
    works = [_read_work(instance, entries, key) for key in _planned(entries)]
    tables = {f"{work.layer}.{work.name}" for work in works} | {f"silver.{table}" for work in works for table in _inputs(work)}
    schemas = {table: [Column(*row) for row in connection.execute(_SQL["columns"], {"table": table}).fetchall()] for table in tables}
    names = Names.of(settings.openlineage.namespace, settings.require_database_url(), str(settings.bronze_path))
    yield from build_events(change._replace(error=_error(entries) or change.error), works, names, schemas)


def _planned(entries: Sequence[dg.DagsterEvent]) -> list[dg.AssetKey]:
    planned = {event.asset_key for event in entries if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED}
    of_layers = [key for key in planned if key and len(key.path) == 2 and key.path[0] in ("silver", "gold")]
    return sorted(of_layers, key=lambda key: key.to_user_string())


def _read_work(instance: dg.DagsterInstance, entries: Sequence[dg.DagsterEvent], key: dg.AssetKey) -> Work:
    done = [
        event.materialization
        for event in entries
        if event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION and event.asset_key == key
    ]
    # At its start, and when it fails, a run has not said what its columns come from; the last one that succeeded has.
    latest = None if done else instance.get_latest_materialization_event(key)
    known = done[-1] if done else latest.asset_materialization if latest else None
    columns = _read_columns(known.metadata) if known else {}
    return Work(key.path[0], key.path[1], bool(done), _read_counts(done[-1].metadata) if done else Counts(), columns)


def _read_columns(metadata: Any) -> dict[str, list[tuple[str, str]]]:
    entry = metadata.get("dagster/column_lineage")
    if not isinstance(entry, dg.TableColumnLineageMetadataValue):
        return {}
    return {
        column: [(dep.asset_key.path[-1], dep.column_name) for dep in deps] for column, deps in entry.column_lineage.deps_by_column.items()
    }


def _read_counts(metadata: Any) -> Counts:
    created, updated, read, items, size = (
        int(metadata[name].value) if name in metadata else None
        for name in ("rows_created", "rows_updated", "rows_read", "items_loaded", "bytes")
    )
    return Counts(None if created is None or updated is None else created + updated, read, items, size)


def _inputs(work: Work) -> set[str]:
    return {table for sources in work.columns.values() for table, _ in sources}


def _error(entries: Sequence[dg.DagsterEvent]) -> str | None:
    """Return what the first failed step died of: the innermost cause, which is the one that says what happened."""
    failures = [event.step_failure_data.error for event in entries if event.event_type is dg.DagsterEventType.STEP_FAILURE]
    if not failures or failures[0] is None:
        return None
    error = failures[0]
    while error.cause is not None:
        error = error.cause
    return error.message.strip()


def _keep_refused(settings: Settings, event: RunEvent, error: TerminalError, now: datetime) -> str:
    path = settings.data_path / "openlineage" / "refused.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(_ENCODER.encode({"refused_at": now, "reason": str(error), "event": event}) + b"\n")
    return f"{event.event_type} of run {event.run.run_id} was not taken, and is kept in {path}: {error}"


def _delivery(settings: Settings) -> Deliver:
    options = settings.openlineage
    if options.file is not None:
        path = settings.root / options.file
        return lambda line: _append(path, line)
    return lambda body: _post(options, body)


def _append(path: Path, line: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(line + b"\n")
    except OSError as error:
        raise TransientError(f"openlineage.file {path} cannot be written: {error}.") from error


def _post(options: OpenLineageSettings, body: bytes) -> None:
    """Post one event.

    Raises:
        TerminalError: the receiver will never take this event.
        TransientError: it may take it later.
    """
    headers = {}
    if options.api_key is not None:
        headers["Authorization"] = f"Bearer {options.api_key.get_secret_value()}"
    where = options.url.host if options.url else ""
    try:
        answer = post(str(options.url), body, timeout_seconds=options.timeout_seconds, most_bytes=_MOST_BYTES, headers=headers)
    except NoAnswerError as error:
        raise TransientError(f"{where} does not answer: {error}.") from error
    if answer.status in _REFUSED_CODES:
        raise TerminalError(f"{where} answered {answer.status}: {answer.text}")
    if answer.status >= 300:
        raise TransientError(f"{where} answered {answer.status}: {answer.text}. Is openlineage.url right, and openlineage.api_key?")
