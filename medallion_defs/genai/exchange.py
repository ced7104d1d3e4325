"""The exchange with the model as Dagster runs it, in the bronze location: one run that sends and collects, one sensor that polls.

The sensor makes at most one cheap call per active batch and tick and downloads nothing; what is due to be sent or collected is the
run's. Whether anything is due is read from the database, so a tick can happen twice, or be lost.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import dagster as dg
import msgspec
import psycopg

from medallion_defs.core import clock, db, markdown
from medallion_defs.core.sections import GenaiSettings
from medallion_defs.core.settings import Settings
from medallion_defs.core.timing import Timer, stage_timing
from medallion_defs.genai.client import gemini_client
from medallion_defs.genai.collect import collect_batches
from medallion_defs.genai.cost import Mode
from medallion_defs.genai.limiter import Limiter
from medallion_defs.genai.online import ask_online
from medallion_defs.genai.poll import Polled, poll_batches
from medallion_defs.genai.state import BatchState, GenaiBatch
from medallion_defs.genai.submit import Sent, send_batches
from medallion_defs.ops.cursors import decode_cursor, encode_cursor
from medallion_defs.ops.dagster_asset import plain_failures
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.ops.run_requests import LAYER_TAG, request_run
from medallion_defs.storage.item import BronzeItem

_JOB = "gemini_exchange"
_POLL_BUDGET_SECONDS = 3.0
_RETRY_SECONDS = 30.0
_MODES: Mapping[str, Mode] = {"gemini_batch": "batch", "gemini_online": "online"}


class PollCursor(msgspec.Struct, frozen=True):
    """When the sensor last polled, and the batch it goes on after."""

    polled_at: datetime
    last: str | None = None


@dataclass
class Exchange:
    """What one run did."""

    sent: list[Sent] = field(default_factory=list)
    collected: list[tuple[GenaiBatch, BronzeItem]] = field(default_factory=list)
    timer: Timer = field(default_factory=Timer)


def exchange(settings: Settings, run_id: str | None) -> Exchange:
    """Send what is reserved, ask what is asked online, collect what has ended.

    Raises:
        ConfigurationError: there is no key, and the emulator is not named.
        UnknownOutcomeError, BusyError, RefusedError: a download failed; what was done before stays done.
    """
    done = Exchange()
    with db.connect(settings, "medallion_bronze", autocommit=True) as connection, gemini_client(settings.genai) as client:
        done.sent.extend(send_batches(settings, connection, client))
        done.sent.extend(ask_online(settings, connection, client))
        done.collected.extend(collect_batches(settings, connection, client, run_id))
    return done


def poll(settings: Settings, cursor: PollCursor | None) -> Polled | None:
    """Look at the active batches; None when it is too early, or there are none."""
    with db.connect(settings, "medallion_bronze", autocommit=True) as connection:
        if not BatchState(connection).list_batches("active", limit=1) or not _is_time(cursor, settings.genai):
            return None
        with gemini_client(settings.genai) as client:
            return poll_batches(connection, client, settings.genai, cursor.last if cursor else None, _POLL_BUDGET_SECONDS)


def due(connection: psycopg.Connection, settings: GenaiSettings, now: datetime) -> list[str]:
    """Return the batches that a run could take further now."""
    limiter = Limiter(connection, settings)
    batches = BatchState(connection).list_batches("reserved", "submitting", "ended")
    return [batch.batch_id for batch in batches if _is_due(batch, limiter, now)]


def build_exchange() -> dg.Definitions:
    """Return the assets, the job and the sensor. Touches neither disk nor database nor network."""
    asset = _build_asset()
    job = dg.define_asset_job(_JOB, selection=[asset], tags={LAYER_TAG: "bronze"},
        description="Sends what tasks ask a model, and brings home what it answered.",
    )  # fmt: skip
    return dg.Definitions(assets=[asset], jobs=[job], sensors=[_build_sensor()])


def _is_time(cursor: PollCursor | None, settings: GenaiSettings) -> bool:
    # A cursor of a later time than now (a clock that was set back, an edit) is not waited for.
    return cursor is None or not 0 <= (clock.now() - cursor.polled_at).total_seconds() < settings.poll_seconds


def _is_due(batch: GenaiBatch, limiter: Limiter, now: datetime) -> bool:
    if batch.status == "ended":
        return True
    if batch.retry_at is not None and now < batch.retry_at:
        return False
    return batch.mode == "online" or batch.status == "submitting" or limiter.room_for(batch) is None


def _build_asset() -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="exchange_with_gemini",
        outs={
            name: dg.AssetOut(
                key=["bronze", name],
                kinds={"file", "bronze", "gemini"},
                tags={LAYER_TAG: "bronze"},
                description=f"Requests to the model and its answers, as they went and came ({mode}): one immutable item per batch, "
                "parsed by `silver/tasks/answers`, and as often as wanted without asking again.\n\n"
                "Materialize sends what is reserved and collects what has ended.",
                owners=["team:data-platform"],
                metadata={"bronze_folder": f"data/bronze/{name}"},
                is_required=False,
            )
            for name, mode in _MODES.items()
        },
        group_name="gemini",
        required_resource_keys={"settings"},
        pool="gemini",
    )
    def gemini_exchange(context: dg.AssetExecutionContext):  # type: ignore[no-untyped-def]  # Dagster reads the annotation of a generator's outputs, and has none for these
        settings: Settings = context.resources.settings
        with plain_failures():
            done = exchange(settings, context.run.run_id)
        for sent in done.sent:
            log = context.log.info if sent.outcome in ("sent", "adopted", "asked", "elsewhere") else context.log.warning
            log(f"{sent.batch_id}: {sent.outcome} {sent.note}")
        for name, mode in _MODES.items():
            if _has_done_anything(done, mode):
                yield dg.MaterializeResult(asset_key=["bronze", name], metadata=_describe(done, mode))

    return gemini_exchange


def _build_sensor() -> dg.SensorDefinition:
    @dg.sensor(
        name="poll_gemini",
        job_name=_JOB,
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        required_resource_keys={"settings"},
        description="Asks the provider how the batches are that it has, and requests a run when one is to be sent or collected.",
    )
    def poll_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        settings: Settings = context.resources.settings
        cursor: PollCursor | None = decode_cursor(context.cursor, PollCursor)
        polled = poll(settings, cursor)
        for problem in polled.problems if polled else ():
            context.log.warning(problem)
        if polled:
            cursor = PollCursor(clock.now(), polled.last)
        with db.connect(settings, "medallion_bronze") as connection:
            batches = due(connection, settings.genai, clock.now())
        request = request_run(context.instance, _JOB, _RETRY_SECONDS, clock.now(), again_after_success=True) if batches else "nothing to do"
        is_request = isinstance(request, dg.RunRequest)
        return dg.SensorResult(
            run_requests=[request] if isinstance(request, dg.RunRequest) else [],
            skip_reason=None if is_request else f"gemini: {request}",
            cursor=encode_cursor(cursor) if cursor else None,
        )

    return poll_sensor


def _has_done_anything(done: Exchange, mode: Mode) -> bool:
    return any(batch.mode == mode for batch, _ in done.collected) or (mode == "batch" and bool(done.sent))


def _describe(done: Exchange, mode: Mode) -> dict[str, dg.MetadataValue[Any]]:
    collected = [(batch, item) for batch, item in done.collected if batch.mode == mode]
    counted = {
        "batches_sent": sum(sent.outcome in ("sent", "adopted") for sent in done.sent) if mode == "batch" else len(collected),
        "batches_collected": len(collected),
        "records_collected": sum(batch.request_count for batch, _ in collected),
        "bytes": sum(item.bytes for _, item in collected),
    }
    return as_metadata(
        {**counted, **stage_timing(done.timer.seconds, records=counted["records_collected"], bytes=counted["bytes"])},
        sent=markdown.table(["batch", "outcome", "note"], [(sent.batch_id, sent.outcome, sent.note) for sent in done.sent]),
        collected=markdown.table(
            ["batch", "task", "records", "state", "item"],
            [(batch.batch_id, batch.task_key, batch.request_count, batch.provider_state, item.path) for batch, item in collected],
        ),
    )
