"""Ask the records of a small batch one by one: quick, at the full price, and with the same file of answers as a batch.

Each answer is on the disk before its call counts as done, so a crash asks again only what was under way. What is nobody's fault
but ours or the day's (a wrong key, a quota) holds the whole batch back with the answers it has; it fails no record. Bronze
location only.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from pathlib import Path
from threading import Lock
from time import sleep
from typing import Any, BinaryIO

import msgspec
import psycopg

from medallion_defs.core import clock
from medallion_defs.core.retry import retry_delay
from medallion_defs.core.settings import Settings
from medallion_defs.genai.client import BusyError, GeminiClient, RefusedError, UnknownOutcomeError
from medallion_defs.genai.limiter import Limiter
from medallion_defs.genai.reprice import reserve_risen_price
from medallion_defs.genai.requests import RESPONSES_FILE, encode_line, error_line, estimate_tokens, outbox_path
from medallion_defs.genai.state import BatchState, BudgetReachedError, GenaiBatch
from medallion_defs.genai.submit import FIRST_WAIT_SECONDS, LOST_STATE, WRONG_REQUEST, Sent, find_requests, upload_media
from medallion_defs.storage.hashed import ChangedBytesError

_BUSY_TRIES = 5
_NOT_FOUND = 404
_LONGEST_PAUSE_SECONDS = 60.0


def ask_online(settings: Settings, connection: psycopg.Connection[Any], client: GeminiClient) -> list[Sent]:
    """Ask every batch of mode online that is due, to its end or until the provider holds it back. `connection`: in autocommit mode."""
    state, outcomes = BatchState(connection), []
    for listed in state.list_batches("reserved", "submitting"):
        if listed.mode != "online":
            continue
        with state.alone(listed.batch_id) as is_alone:
            batch = state.read(listed.batch_id) if is_alone else None
            if batch is None or batch.status not in ("reserved", "submitting"):
                outcomes.append(Sent(listed.batch_id, "elsewhere"))
            elif batch.retry_at is not None and clock.now() < batch.retry_at:
                outcomes.append(Sent(batch.batch_id, "waits", f"until {batch.retry_at:%H:%M:%S} UTC: {batch.error}"))
            else:
                outcomes.append(_Conversation(settings, connection, client, batch).hold())
    return outcomes


class _Conversation:
    """The calls of one batch."""

    def __init__(self, settings: Settings, connection: psycopg.Connection[Any], client: GeminiClient, batch: GenaiBatch) -> None:
        self._settings = settings
        self._state = BatchState(connection)
        self._limiter = Limiter(connection, settings.genai)
        self._client = client
        self._batch = batch
        self._requests = outbox_path(settings.data_path, batch.batch_id)
        self._responses = self._requests.with_name(RESPONSES_FILE)
        self._writing = Lock()

    def hold(self) -> Sent:
        """Ask what has no answer yet; return what became of the batch."""
        batch_id = self._batch.batch_id
        try:
            trouble = find_requests(self._settings, self._batch)
            if trouble:
                kept = RESPONSES_FILE if self._responses.exists() else None
                self._state.mark_ended(batch_id, LOST_STATE, kept, trouble, clock.now())
                return Sent(batch_id, "lost", trouble)
            if why := reserve_risen_price(self._state, self._settings.genai, self._batch, self._requests, clock.now()):
                return self._postpone(BudgetReachedError(why))
            self._state.mark_submitting(batch_id, None, clock.now())
            self._ask_all()
        except (BusyError, RefusedError, OSError) as error:
            return self._postpone(error)
        self._state.mark_ended(batch_id, "SUCCEEDED", RESPONSES_FILE, None, clock.now())
        return Sent(batch_id, "asked")

    def _ask_all(self) -> None:
        answered = _answered_keys(self._responses)
        # The inner block ends first: whatever happens, what is under way is waited for, and written.
        with self._responses.open("ab", buffering=0) as file, ThreadPoolExecutor(self._settings.genai.online_workers) as workers:
            calls: set[Future[None]] = set()
            for request in self._open_requests(answered):
                try:
                    tokens = estimate_tokens(request)
                except FileNotFoundError as error:
                    self._write(file, error_line(request["key"], 503, error))
                    continue
                self._wait_for_room(tokens)
                calls.add(workers.submit(self._ask, request, tokens, file))
                if len(calls) >= self._settings.genai.online_workers:
                    calls = _without_done(calls)
            while calls:
                calls = _without_done(calls)

    def _open_requests(self, answered: set[str]) -> Iterator[dict[str, Any]]:
        with self._requests.open(encoding="utf-8") as file:
            for line in file:
                request = json.loads(line)
                if request["key"] not in answered:
                    yield request

    def _wait_for_room(self, tokens: int) -> None:
        while seconds := self._limiter.take_request():
            _sleep(seconds)
        while seconds := self._limiter.take_tokens(self._batch.model, tokens):
            _sleep(seconds)

    def _ask(self, request: dict[str, Any], tokens: int, file: BinaryIO) -> None:
        """Ask for one record and write its result line: a response, or the error that stands for it.

        Raises:
            BusyError, RefusedError: the provider answers nobody now, or not us; the record is not at fault.
        """
        for attempt in range(1, _BUSY_TRIES + 1):
            try:
                upload_media(self._client, self._batch, request)
                self._write(file, _result_line(request["key"], self._client.generate(self._batch.model, request["request"])))
            except BusyError as error:
                self._limiter.pause(error.retry_after)
                if attempt == _BUSY_TRIES:
                    raise
                self._wait_for_room(tokens)
                continue
            except RefusedError as error:
                # 404: no such model, for any record.
                if not error.is_wrong_request or error.code == _NOT_FOUND:
                    raise
                self._write(file, error_line(request["key"], error.code, error))
            except ChangedBytesError as error:
                self._write(file, error_line(request["key"], WRONG_REQUEST, error))
            except (UnknownOutcomeError, FileNotFoundError) as error:
                self._write(file, error_line(request["key"], 503, error))
            return

    def _write(self, file: BinaryIO, line: bytes) -> None:
        with self._writing:
            end = os.fstat(file.fileno()).st_size
            try:
                # Unbuffered, and a full disk takes less than it is given.
                if file.write(line) != len(line):
                    raise OSError(f"{self._responses}: the disk took only a part of an answer.")
                os.fsync(file.fileno())
            except OSError:
                os.ftruncate(file.fileno(), end)
                raise

    def _postpone(self, error: BusyError | RefusedError | BudgetReachedError | OSError) -> Sent:
        asked_for = error.retry_after if isinstance(error, BusyError) else None
        now = clock.now()
        wait = retry_delay(self._batch.submit_attempts + 1, FIRST_WAIT_SECONDS)
        retry_at = now + (timedelta(seconds=asked_for) if asked_for else wait)
        self._state.postpone(self._batch.batch_id, str(error), retry_at, now)
        return Sent(self._batch.batch_id, "waits", f"{error}; goes on at {retry_at:%H:%M:%S} UTC")


def _sleep(seconds: float) -> None:
    if seconds > _LONGEST_PAUSE_SECONDS:
        raise BusyError(f"The next call can be made in {seconds:.0f} s only.", seconds)
    sleep(seconds)


def _without_done(calls: set[Future[None]]) -> set[Future[None]]:
    """Wait for a call to be done; return those that are not. Raises what a call raised."""
    done, under_way = wait(calls, return_when=FIRST_COMPLETED)
    for call in done:
        call.result()
    return under_way


def _result_line(key: str, response: bytes) -> bytes:
    try:
        return encode_line({"key": key, "response": msgspec.json.decode(response)})
    except (ValueError, RecursionError) as error:
        return error_line(key, 502, f"The response is not JSON that can be kept ({error}): {response[:500].decode('utf-8', 'replace')}")


def _answered_keys(path: Path) -> set[str]:
    """Return the records that have an answer; a torn last line, of a crash, is cut off."""
    if not path.exists():
        return set()
    keys, end = set(), 0
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                os.truncate(path, end)
                break
            end += len(line)
            keys.add(json.loads(line)["key"])
    return keys
