"""Send reserved batches, so that no crash pays twice and none loses a job. Bronze location only.

    reserved ──commit──► submitting ──create──► active
                              │ crash, timeout, cut connection, 5xx: perhaps there is a job
                              └──► look for it by name; adopt it, or, when the provider has had time to show it, create again

The create call is not idempotent and is made once per look. An upload has a name of our own and can be repeated.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
import psycopg

from medallion_defs.core import clock
from medallion_defs.core.errors import MedallionError
from medallion_defs.core.retry import retry_delay
from medallion_defs.core.settings import Settings
from medallion_defs.genai.client import BusyError, GeminiClient, RefusedError, UnknownOutcomeError
from medallion_defs.genai.cut import cut_in_two
from medallion_defs.genai.limiter import Limiter
from medallion_defs.genai.reprice import reserve_risen_price
from medallion_defs.genai.requests import LEFT_OUT_FILE, UPLOAD_SCHEME, error_line, outbox_path, uploads_in, write_requests
from medallion_defs.genai.state import BatchState, BudgetReachedError, GenaiBatch, LostBatchError
from medallion_defs.storage.hashed import ChangedBytesError
from medallion_defs.storage.local.files import held

LOST_STATE = "LOST"
WRONG_REQUEST, _NOT_THERE = 400, 503
_REQUEST_OR_MODEL = frozenset({400, 404, 413})
_SENT_FILE = "sent.jsonl"
_LOOKS = 10
FIRST_WAIT_SECONDS = 30.0


class Sent(msgspec.Struct, frozen=True):
    """What became of one batch. `waits` and `unknown` are tried again at the next run; `cut`: so are the two that it became."""

    batch_id: str
    outcome: Literal["sent", "adopted", "waits", "unknown", "cut", "lost", "asked", "elsewhere"]
    note: str = ""


def send_batches(settings: Settings, connection: psycopg.Connection[Any], client: GeminiClient) -> Iterator[Sent]:
    """Send or adopt every batch that is due. `connection`: in autocommit mode, for each step is its own commit."""
    state = BatchState(connection)
    for listed in state.list_batches("reserved", "submitting"):
        if listed.mode == "online":
            continue
        with state.alone(listed.batch_id) as is_alone:
            # Read again: whoever had it may have taken it further.
            batch = state.read(listed.batch_id) if is_alone else None
            if batch is None or batch.status not in ("reserved", "submitting"):
                yield Sent(listed.batch_id, "elsewhere")
                continue
            try:
                yield _Sender(settings, connection, client, batch).send()
            except LostBatchError as error:
                # Cancelled by a person between two of our steps.
                yield Sent(batch.batch_id, "elsewhere", str(error))


def find_requests(settings: Settings, batch: GenaiBatch) -> str | None:
    """Return what is wrong with a batch's request file; None when it is the one that was reserved.

    Raises:
        OSError: it cannot be read, or there is no outbox at all: a disk is away, and nothing is known.
    """
    path = outbox_path(settings.data_path, batch.batch_id)
    if path.exists():
        return None if _sha256(path) == batch.fingerprint else f"{path} is not the file that the batch was reserved with"
    path.parent.parent.stat()
    return f"{path} is gone"


def upload_media(client: GeminiClient, batch: GenaiBatch, line: dict[str, Any]) -> dict[str, Any]:
    """Upload the large media of a line, and put their addresses into it.

    Names are of the batch: what another batch uploaded may expire before this one is done.

    Raises:
        FileNotFoundError: a medium is gone.
        ChangedBytesError: a medium has other bytes than were published.
        RefusedError, BusyError, UnknownOutcomeError: an upload failed.
    """
    for file_data in uploads_in(line):
        medium = Path(file_data["fileUri"].removeprefix(UPLOAD_SCHEME))
        published = file_data.get("sha256") or _sha256(medium)
        name = hashlib.sha256(f"{batch.fingerprint} {published}".encode()).hexdigest()
        with held(medium, published):
            file_data["fileUri"] = client.upload(medium, f"files/m-{name[:32]}", file_data["mimeType"])
        file_data.pop("sha256", None)
    return line


class _Sender:
    """One batch on its way to the provider."""

    def __init__(self, settings: Settings, connection: psycopg.Connection[Any], client: GeminiClient, batch: GenaiBatch) -> None:
        self._settings = settings
        self._state = BatchState(connection)
        self._limiter = Limiter(connection, settings.genai)
        self._client = client
        self._batch = batch
        self._left_out = ""

    def send(self) -> Sent:
        waits = self._wait()
        if waits:
            return waits
        try:
            # A create call was made: whatever it answered, its job is looked for before another is made.
            adopted = self._adopt() if self._batch.submit_attempts else None
            return adopted or self._send_requests()
        except (BusyError, RefusedError, UnknownOutcomeError, OSError) as error:
            return self._postpone(error)

    def _send_requests(self) -> Sent:
        trouble = find_requests(self._settings, self._batch)
        if trouble:
            return self._lose(f"{trouble}; its records are asked again")
        path, genai = outbox_path(self._settings.data_path, self._batch.batch_id), self._settings.genai
        if why := reserve_risen_price(self._state, genai, self._batch, path, clock.now()):
            return self._postpone(BudgetReachedError(why))
        try:
            file_name = self._upload_requests()
        except RefusedError as error:
            return self._refused(error)
        return self._create(file_name)

    def _adopt(self) -> Sent | None:
        """Take over the job that an earlier create call made; None when there certainly is none."""
        names = self._client.find(self._batch.display_name, self._batch.input_file)
        if names:
            # Cancelled first: once the batch is active nobody looks for them again.
            for extra in names[1:]:
                self._client.cancel_unless_over(extra)
            self._mark_active(names[0])
            more = f"; {len(names) - 1} more of its name are cancelled" if names[1:] else ""
            return self._sent("adopted", f"{names[0]}{more}")
        since = clock.now() - (self._batch.submitted_at or self._batch.created_at)
        if self._batch.status == "submitting" and since < timedelta(seconds=self._settings.genai.adopt_seconds):
            note = (
                f"looked for at the provider and not found; another job is made {self._settings.genai.adopt_seconds:.0f} s after the call"
            )
            self._state.postpone(self._batch.batch_id, note, self._look_again_at(), clock.now())
            return self._sent("unknown", note)
        return None

    def _mark_active(self, name: str) -> None:
        """From here on the provider has it: only now its time runs."""
        now = clock.now()
        deadline_at = (self._batch.submitted_at or now) + timedelta(hours=self._settings.genai.deadline_hours)
        self._state.mark_active(self._batch.batch_id, name, deadline_at, now)

    def _wait(self) -> Sent | None:
        now = clock.now()
        if self._batch.retry_at is not None and now < self._batch.retry_at:
            return self._sent("waits", f"until {self._batch.retry_at:%H:%M:%S} UTC: {self._batch.error}")
        # One that may be at the provider already takes no more room; were it to wait for room, two of them would wait for each other.
        reason = self._limiter.room_for(self._batch) if self._batch.status == "reserved" else None
        if reason is None and (seconds := self._limiter.take_request()):
            reason = f"{seconds:.0f} s for the request limit"
        return self._sent("waits", reason) if reason else None

    def _create(self, file_name: str) -> Sent:
        batch_id = self._batch.batch_id
        self._state.mark_submitting(batch_id, file_name, clock.now())
        try:
            name = self._client.create(self._batch.model, file_name, self._batch.display_name)
        except UnknownOutcomeError as error:
            self._state.note_unknown(batch_id, str(error), self._look_again_at(), clock.now())
            return self._sent("unknown", str(error))
        except (BusyError, RefusedError) as error:
            self._state.mark_refused(batch_id, clock.now())
            return self._refused(error)
        self._batch = msgspec.structs.replace(self._batch, status="submitting", submitted_at=clock.now())
        self._mark_active(name)
        return self._sent("sent", f"{name}{self._left_out}")

    def _refused(self, error: BusyError | RefusedError) -> Sent:
        """There is no job. A batch is refused as a whole, so none of its records is at fault: it is cut smaller, or it waits."""
        if isinstance(error, RefusedError) and error.is_too_large and self._batch.request_count > 1:
            batch = self._state.read(self._batch.batch_id) or self._batch
            names = cut_in_two(self._state, self._settings.data_path, batch, str(error))
            return self._sent("cut", f"{error}; it is {' and '.join(names)} now")
        retry_at = self._retry_at(error)
        said = (
            f"{error} {self._batch.refused_remedy}" if isinstance(error, RefusedError) and error.code in _REQUEST_OR_MODEL else str(error)
        )
        self._state.postpone(self._batch.batch_id, said, retry_at, clock.now())
        return self._sent("waits", f"{said}; sent again at {retry_at:%H:%M:%S} UTC")

    def _upload_requests(self) -> str:
        """Upload the request file, its large media first; return its name there."""
        path = outbox_path(self._settings.data_path, self._batch.batch_id)
        left_out: list[bytes] = []
        sent = write_requests(path.with_name(_SENT_FILE), self._with_uploads(path, left_out)) if _has_uploads(path) else None
        _keep_left_out(path.with_name(LEFT_OUT_FILE), left_out)
        fingerprint = sent.fingerprint if sent else self._batch.fingerprint
        name = f"files/in-{fingerprint[:32]}"
        self._client.upload(sent.path if sent else path, name, "application/jsonl")
        return name

    def _with_uploads(self, path: Path, left_out: list[bytes]) -> Iterator[dict[str, Any]]:
        """Yield the lines as they are sent; for one whose medium is gone or refused, a result line is added to `left_out`."""
        self._left_out = ""
        for line in _lines(path):
            try:
                yield upload_media(self._client, self._batch, line)
            except (FileNotFoundError, ChangedBytesError, RefusedError) as error:
                if isinstance(error, RefusedError) and not error.is_wrong_request:
                    raise
                left_out.append(error_line(line["key"], WRONG_REQUEST if isinstance(error, ChangedBytesError) else _NOT_THERE, error))
                self._left_out += f"; {line['key']} is left out: {error}"

    def _lose(self, error: str) -> Sent:
        """There is no job and there will be none: the batch ends like one that gave no results."""
        self._state.mark_ended(self._batch.batch_id, LOST_STATE, None, error, clock.now())
        return self._sent("lost", error)

    def _postpone(self, error: MedallionError | OSError) -> Sent:
        """A call before the create call failed: nothing is lost by doing it again."""
        retry_at = self._retry_at(error)
        self._state.postpone(self._batch.batch_id, str(error), retry_at, clock.now())
        return self._sent("waits", f"{error}; tried again at {retry_at:%H:%M:%S} UTC")

    def _look_again_at(self) -> datetime:
        return clock.now() + timedelta(seconds=self._settings.genai.adopt_seconds / _LOOKS)

    def _retry_at(self, error: MedallionError | OSError) -> datetime:
        now = clock.now()
        if isinstance(error, BusyError):
            self._limiter.pause(error.retry_after)
            if error.retry_after:
                return now + timedelta(seconds=error.retry_after)
        return now + retry_delay(self._batch.submit_attempts + 1, FIRST_WAIT_SECONDS)

    def _sent(self, outcome: Literal["sent", "adopted", "waits", "unknown", "cut", "lost"], note: str) -> Sent:
        return Sent(self._batch.batch_id, outcome, note)


def _keep_left_out(path: Path, lines: Sequence[bytes]) -> None:
    """Keep the result lines of records that are not sent; those of an earlier attempt hold no more."""
    path.write_bytes(b"".join(lines)) if lines else path.unlink(missing_ok=True)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def _has_uploads(path: Path) -> bool:
    return any(True for line in _lines(path) for _ in uploads_in(line))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
