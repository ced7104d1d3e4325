"""Bring home what the provider is done with: requests, answers and the job's last state become one immutable bronze item.

A job that gave no results becomes an item too, without answers: what went wrong is then found, logged and retried by the same
parser as everything else. A file of answers is compared with what the provider announces of it before it is published, for what is
published never changes. Bronze location only.
"""

import hashlib
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from medallion_defs.bronze.store import NewArtifact, NewItem, open_store
from medallion_defs.core import clock
from medallion_defs.core.errors import MedallionError, TerminalError, TransientError
from medallion_defs.core.settings import Settings
from medallion_defs.genai.client import GeminiClient, RefusedError
from medallion_defs.genai.jobs import FileFacts
from medallion_defs.genai.requests import LEFT_OUT_FILE, REQUESTS_FILE, RESPONSES_FILE, RESPONSES_PART, outbox_path
from medallion_defs.genai.state import BatchState, GenaiBatch
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.ledger import Ledger
from medallion_defs.storage.item import BronzeItem

_CHUNK_BYTES = 1024 * 1024
# How long the provider keeps a file.
_RESULTS_LAST = timedelta(hours=48)


class IncompleteFileError(TransientError):
    """A downloaded file of answers is not what the provider announces."""


class NotToBeHadError(TerminalError):
    """The answers of a job that ended well cannot be had. They were paid for: nothing is asked again without a person."""


def collect_batches(
    settings: Settings, connection: psycopg.Connection[Any], client: GeminiClient, run_id: str | None
) -> Iterator[tuple[GenaiBatch, BronzeItem]]:
    """Collect every batch that has ended; yield each with its bronze item. `connection`: in autocommit mode.

    Raises:
        UnknownOutcomeError, BusyError, RefusedError, IncompleteFileError, OSError: a download or a file failed, the first of them, after
            the other batches were collected; the batch stays ended, and is collected again.
        NotToBeHadError: the same, of a batch that is held for a person now.
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
            except NotToBeHadError as error:
                state.hold(batch.batch_id, batch.provider_state, str(error), clock.now())
                failures.append(error)
            except (MedallionError, OSError) as error:
                failures.append(error)
    if failures:
        raise failures[0]


def _collect(
    settings: Settings, connection: psycopg.Connection[Any], client: GeminiClient, batch: GenaiBatch, run_id: str | None
) -> tuple[GenaiBatch, BronzeItem]:
    started_at = clock.now()
    folder = outbox_path(settings.data_path, batch.batch_id).parent
    folder.mkdir(parents=True, exist_ok=True)
    responses = _fetch_responses(settings, client, batch, folder)
    with open_store(settings).group(f"gemini_{batch.mode}") as group:
        group.stage(_new_item(batch, folder, responses, run_id))
        [publication] = group.publish()
    # A crash from here on publishes the same bytes again, which the store recognises.
    with connection.transaction():
        Ledger(connection).register_published([DatasetIngestion.published(publication.item, clock.now(), started_at)])
        BatchState(connection).mark_collected(batch.batch_id, clock.now())
    shutil.rmtree(folder)
    return batch, publication.item


def _fetch_responses(settings: Settings, client: GeminiClient, batch: GenaiBatch, folder: Path) -> Path | None:
    """Return the file of answers, downloaded where the provider has it; None when the job gave none."""
    path = folder / RESPONSES_FILE
    if batch.output_file is None:
        return None
    if batch.mode == "batch" and not path.exists():
        part = path.with_name(RESPONSES_PART)
        try:
            _download(client, batch, part)
        except RefusedError as error:
            # Within that time it may be our key; after it nothing brings the file back.
            if not _is_past(batch, _RESULTS_LAST):
                raise
            raise NotToBeHadError(f"the answers ({batch.output_file}) are gone: {error}. {_remedy(batch)}") from error
        _require_whole(settings, client, batch, part)
        part.rename(path)
    return path if path.exists() else None


def _download(client: GeminiClient, batch: GenaiBatch, part: Path) -> None:
    if batch.output_file == batch.provider_name:
        client.download_inlined(str(batch.provider_name), part)
    else:
        client.download(str(batch.output_file), part)


def _require_whole(settings: Settings, client: GeminiClient, batch: GenaiBatch, part: Path) -> None:
    """Make sure that a downloaded file is the one that the provider announces.

    Raises:
        IncompleteFileError: it is not; a download that broke off unnoticed is whole the next time.
        NotToBeHadError: it was not, again and again.
    """
    trouble = _difference(client, batch, part)
    is_settled = _is_past(batch, timedelta(seconds=settings.genai.adopt_seconds))
    if trouble and not is_settled:
        raise IncompleteFileError(f"{batch.batch_id}: {trouble}. It is downloaded again.")
    if trouble:
        raise NotToBeHadError(f"{trouble}, again and again. {_remedy(batch)}; with --as-is, takes the file as it came")


def _difference(client: GeminiClient, batch: GenaiBatch, part: Path) -> str | None:
    """Return how a file of answers differs from what is announced: size and hash, or, where neither is known, the count of lines."""
    facts = FileFacts() if batch.output_file == batch.provider_name else client.describe_file(str(batch.output_file))
    size = part.stat().st_size
    if facts.size is not None and facts.size != size:
        return f"the file of answers ({batch.output_file}) has {size:,} bytes and {facts.size:,} are announced"
    if facts.sha256 is not None and facts.sha256 != _sha256(part):
        return f"the file of answers ({batch.output_file}) has not the sha256 that is announced"
    if facts == FileFacts():
        lines, announced = _count_lines(part), client.read_job(str(batch.provider_name)).announced_lines
        if announced is not None and lines < announced:
            return f"the file of answers ({batch.output_file}) has {lines:,} lines and {announced:,} are announced"
    return None


def _is_past(batch: GenaiBatch, wait: timedelta) -> bool:
    return batch.ended_at is not None and clock.now() >= batch.ended_at + wait


def _remedy(batch: GenaiBatch) -> str:
    return f"'medallion genai cancel {batch.batch_id}' gives the batch up; 'medallion genai resume {batch.batch_id}' tries again"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def _new_item(batch: GenaiBatch, folder: Path, responses: Path | None, run_id: str | None) -> NewItem:
    artifacts = [NewArtifact("batch.json", _describe(batch))]
    if (folder / REQUESTS_FILE).exists():
        artifacts.insert(0, NewArtifact(REQUESTS_FILE, _chunks(folder / REQUESTS_FILE)))
    if responses is not None:
        artifacts.append(NewArtifact(RESPONSES_FILE, _chunks(responses)))
        if (folder / LEFT_OUT_FILE).exists():
            artifacts.append(NewArtifact(LEFT_OUT_FILE, _chunks(folder / LEFT_OUT_FILE)))
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
