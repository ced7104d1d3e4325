"""Bring home what the provider is done with: requests, answers and the job's last state become one immutable bronze item.

A job that gave no results becomes an item too, without answers: what went wrong is then found, logged and retried by the same
parser as everything else. Bronze location only.
"""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from medallion_defs.bronze.local import LocalStore
from medallion_defs.bronze.store import NewArtifact, NewItem
from medallion_defs.core import clock
from medallion_defs.core.errors import MedallionError
from medallion_defs.core.settings import Settings
from medallion_defs.genai.client import GeminiClient, RefusedError
from medallion_defs.genai.requests import REQUESTS_FILE, RESPONSES_FILE, outbox_path
from medallion_defs.genai.state import BatchState, GenaiBatch
from medallion_defs.genai.submit import LOST_STATE
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.item import BronzeItem
from medallion_defs.ops.ledger import Ledger

_CHUNK_BYTES = 1024 * 1024
_PART_SUFFIX = ".part"
# How long the provider keeps a file.
_RESULTS_LAST = timedelta(hours=48)
_SWEPT_AFTER = timedelta(days=1)
_HAS_LEFT_OUTBOX = frozenset({"collected", "completed", "failed", "cancelled"})


def collect_batches(
    settings: Settings, connection: psycopg.Connection[Any], client: GeminiClient, run_id: str | None
) -> Iterator[tuple[GenaiBatch, BronzeItem]]:
    """Collect every batch that has ended; yield each with its bronze item. `connection`: in autocommit mode.

    Raises:
        UnknownOutcomeError, BusyError, RefusedError, OSError: a download or a file failed, the first of them, after the other batches
            were collected; the batch stays ended, and is collected again.
    """
    state = BatchState(connection)
    failures: list[MedallionError | OSError] = []
    for listed in state.list_batches("ended"):
        with state.alone(listed.batch_id) as is_alone:
            batch = state.read(listed.batch_id) if is_alone else None
            if batch is None or batch.status != "ended":
                continue
            try:
                yield _collect(settings, connection, client, batch, run_id)
            except (MedallionError, OSError) as error:
                failures.append(error)
    if failures:
        raise failures[0]


def sweep_outbox(settings: Settings, connection: psycopg.Connection[Any]) -> list[str]:
    """Delete the outbox folders that a crash or a cancelled batch left behind, a day later; return their names."""
    state, swept = BatchState(connection), []
    oldest = clock.now().timestamp() - _SWEPT_AFTER.total_seconds()
    for folder in sorted((settings.data_path / "outbox").glob("*/")):
        batch = state.read(folder.name)
        if folder.stat().st_mtime < oldest and (batch is None or batch.status in _HAS_LEFT_OUTBOX):
            shutil.rmtree(folder)
            swept.append(folder.name)
    return swept


def _collect(
    settings: Settings, connection: psycopg.Connection[Any], client: GeminiClient, batch: GenaiBatch, run_id: str | None
) -> tuple[GenaiBatch, BronzeItem]:
    started_at = clock.now()
    folder = outbox_path(settings.data_path, batch.batch_id).parent
    folder.mkdir(parents=True, exist_ok=True)
    responses = _fetch_responses(client, batch, folder)
    if batch.output_file is not None and responses is None:
        batch = _note_lost(connection, batch)
    with LocalStore(settings.bronze_path).group(f"gemini_{batch.mode}") as group:
        group.stage(_new_item(batch, folder, responses, run_id))
        [publication] = group.publish()
    # A crash from here on publishes the same bytes again, which the store recognises.
    with connection.transaction():
        Ledger(connection).register_published([DatasetIngestion.published(publication.item, clock.now(), started_at)])
        BatchState(connection).mark_collected(batch.batch_id, clock.now())
    shutil.rmtree(folder)
    return batch, publication.item


def _fetch_responses(client: GeminiClient, batch: GenaiBatch, folder: Path) -> Path | None:
    """Return the file of answers, downloaded where the provider has it; None when there is none, or none any more."""
    path = folder / RESPONSES_FILE
    if batch.output_file is None:
        return None
    if batch.mode == "batch" and not path.exists():
        part = path.with_name(path.name + _PART_SUFFIX)
        try:
            client.download(batch.output_file, part)
        except RefusedError:
            # Within that time it may be our key; after it nothing brings the file back.
            if batch.ended_at is None or clock.now() < batch.ended_at + _RESULTS_LAST:
                raise
            return None
        part.rename(path)
    return path if path.exists() else None


def _note_lost(connection: psycopg.Connection[Any], batch: GenaiBatch) -> GenaiBatch:
    """Write down that the answers are gone, so that the batch goes on without them; return it as it is then."""
    state = BatchState(connection)
    state.mark_lost(
        batch.batch_id, LOST_STATE, f"the answers ({batch.output_file}) are gone; the job had ended {batch.provider_state}", clock.now()
    )
    changed = state.read(batch.batch_id)
    assert changed is not None, "its row was updated just now"
    return changed


def _new_item(batch: GenaiBatch, folder: Path, responses: Path | None, run_id: str | None) -> NewItem:
    artifacts = [NewArtifact("batch.json", _describe(batch))]
    if (folder / REQUESTS_FILE).exists():
        artifacts.insert(0, NewArtifact(REQUESTS_FILE, _chunks(folder / REQUESTS_FILE)))
    if responses is not None:
        artifacts.append(NewArtifact(RESPONSES_FILE, _chunks(responses)))
    return NewItem(
        external_id=batch.batch_id,
        filename=f"{batch.batch_id}.jsonl",
        origin=batch.provider_name or f"gemini {batch.mode}",
        fetched_at=batch.ended_at or clock.now(),
        artifacts=artifacts,
        run_id=run_id,
    )


def _describe(batch: GenaiBatch) -> bytes:
    """Return what a person, or a rebuild of the database, needs to know of the batch beside its lines."""
    facts = {
        name: getattr(batch, name)
        for name in ("batch_id", "mode", "task_key", "prompt_id", "model", "fingerprint", "request_count", "submitted_at", "ended_at",
                     "provider_name", "provider_state", "error")
    }  # fmt: skip
    return msgspec.json.encode(facts) + b"\n"


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
