"""Ask: the process step of a task whose answers come from a model. Takes one batch, writes its requests, and hands it to the transport.

Nothing is sent here, and no network is needed. In one transaction, guarded by the lease: the records are taken, so that nobody
else asks for them; the budget is reserved; the attempts are counted; the batch is the model's. The request file is on the disk
before that commits. The answers come back through bronze (`answers.py`).
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import msgspec

from medallion_defs.core import clock
from medallion_defs.core.batching import cut
from medallion_defs.core.errors import ConfigurationError, TerminalError, TransientError
from medallion_defs.core.sections import ModelPrice, TaskSettings
from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.genai.cost import Mode, estimate_usd
from medallion_defs.genai.requests import (
    Media,
    Prompt,
    estimate_tokens,
    item_token,
    max_output_tokens,
    outbox_path,
    request_line,
    write_requests,
)
from medallion_defs.genai.state import BatchState, BudgetReachedError, Intent, RequestRecord
from medallion_defs.labeling.contract import WorkItem
from medallion_defs.labeling.engine import leases
from medallion_defs.labeling.engine.batch import ClaimedBatch
from medallion_defs.labeling.engine.outcomes import Event
from medallion_defs.labeling.labels.markers import markers_of
from medallion_defs.labeling.models.questions import Question, build_questions
from medallion_defs.labeling.prompts import PromptProfile
from medallion_defs.storage.hashed import ChangedBytesError

_SQL = load_queries("medallion_defs.labeling.models", "asking.sql")


class InFlightError(TransientError):
    """Another batch has the record at the provider."""


class UnreadableMediumError(TransientError):
    """A file that goes with the record's prompt cannot be read."""


class DeadRecordError(TerminalError):
    """The record's answers failed more often than they may."""


class BatchAsking:
    """The asking of one claimed batch, over one connection that has no transaction open."""

    def __init__(self, batch: ClaimedBatch) -> None:
        self._batch = batch
        self._connection = batch.connection
        self._settings = batch.settings
        self._task = batch.task
        self._lease = batch.lease
        self._outcomes = batch.outcomes
        self._outbox: list[Path] = []
        self._next_usd = Decimal(0)
        self._left_out = ""

    def ask(self) -> str:
        """Bring every item to the provider's door or to an outcome; return a sentence about it.

        Raises:
            BudgetReachedError: a cap in dollars is reached; the batch is given back untouched.
            LostLeaseError: another worker took the batch over.
        """
        profile = self._batch.read_profile()
        with self._connection.transaction():
            items, refused = self._batch.gather(self._batch.read_items())
        markers = markers_of(self._settings, self._task)
        items, marked = markers.split_present(items, self._lease.prompt_id) if markers else (items, [])
        refused += [self._outcomes.withdrawn(_not_tried(item)) for item in marked]
        questions, bad = build_questions(self._settings, self._task, profile, items, self._outcomes)
        with self._given_back_on_budget(), self._outbox_on_failure_removed(), self._connection.transaction():
            leases.renew(self._connection, self._lease, self._batch.limits.lease_seconds)
            asked, busy = self._reserve(questions, profile)
            self._batch.write([*refused, *bad, *busy])
            if markers:
                markers.note_present(self._connection, marked)
            if asked:
                leases.guard(self._connection, _SQL["hand_over"], self._lease)
            else:
                leases.finish(self._connection, self._lease)
        left = f"; {self._left_out}" if self._left_out else ""
        return f"{asked} records wait to be sent, {len(refused) + len(bad) + len(busy)} came to an outcome at once{left}"

    def _reserve(self, questions: Sequence[Question], profile: PromptProfile) -> tuple[int, list[Event]]:
        """Write down the batches of the questions that are free; return how many records that is, and the outcomes of the others."""
        self._room = BatchState(self._connection).read_room(self._task.task_key, self._settings.genai, clock.now())
        alive, dead = self._without_dead(questions)
        asked, busy, left = 0, dead, list[Question]()
        for part in self._parts(alive):
            if left:
                left += part
                continue
            reserved, in_flight, left = self._reserve_part(part, profile)
            asked, busy = asked + reserved, busy + in_flight
        if left and not asked:
            raise self._room.refusal(self._next_usd)
        # Not tried, so no attempt: what a cap leaves out is planned again, and asked when there is room.
        refusal = self._room.refusal(self._next_usd)
        self._left_out = f"{len(left)} of them have no room: {refusal}" if left else ""
        return asked, busy + [self._outcomes.failed(_not_tried(question.item), refusal) for question in left]

    def _parts(self, questions: Sequence[Question]) -> Iterator[list[Question]]:
        """Cut the questions into parts within the limits of one batch."""
        genai = self._settings.genai
        size = partial(_request_bytes, inline_bytes=genai.inline_media_bytes)
        return cut(questions, size, most_items=genai.max_batch_requests, most_bytes=genai.max_batch_bytes)

    def _without_dead(self, questions: Sequence[Question]) -> tuple[list[Question], list[Event]]:
        most = self._settings.genai.max_retries
        failures = BatchState(self._connection).read_failures({question.record_key: question.item.task_id for question in questions})
        dead = {key for key, count in failures.items() if count > most}
        error = DeadRecordError(f"Its answers failed more than {most} times (genai.max_retries). 'medallion genai requeue' tries again.")
        return [question for question in questions if question.record_key not in dead], [
            self._outcomes.failed(question.item, error) for question in questions if question.record_key in dead
        ]

    def _reserve_part(self, part: Sequence[Question], profile: PromptProfile) -> tuple[int, list[Event], list[Question]]:
        """Write down one batch; return how many records it has, the outcomes of others, and the questions that a cap leaves out."""
        batch_id = f"{self._task.task_key}-{self._lease.batch_id}-{token_hex(4)}"
        state = BatchState(self._connection)
        free = state.claim_records(batch_id, [question.record_key for question in part])
        taken = [question for question in part if question.record_key in free]
        error = InFlightError("Another batch has the record at the provider; it is asked about when that is back.")
        # Not tried, so no attempt: whoever waits long enough is asked about.
        waiting = [_not_tried(question.item) for question in part if question.record_key not in free]
        busy = [self._outcomes.failed(item, error) for item in waiting]
        if not taken:
            return 0, busy, []
        written = self._write_down(state, batch_id, taken, profile)
        return len(written.questions), busy + written.unreadable, written.left

    def _write_down(self, state: BatchState, batch_id: str, taken: Sequence[Question], profile: PromptProfile) -> "_Lines":
        """Write the request file and the batch of the questions that there is room for."""
        genai, now = self._settings.genai, clock.now()
        prompt = prompt_of(profile)
        mode: Mode = "online" if len(taken) <= genai.online_requests else "batch"
        estimate = _Estimate(prompt, mode, genai.prices, self._room.usd)
        path = outbox_path(self._settings.data_path, batch_id)
        self._outbox.append(path.parent)
        lines = _Lines()
        file = write_requests(path, self._lines(batch_id, taken, prompt, estimate, lines))
        asked = {question.record_key for question in lines.questions}
        state.release_records(batch_id, [question.record_key for question in taken if question.record_key not in asked])
        self._next_usd = estimate.refused_usd
        if not lines.questions:
            shutil.rmtree(path.parent)
            return lines
        self._room = self._room.less(estimate.usd)
        records = [
            RequestRecord(question.record_key, question.item.task_id, question.item.attempt, item_token(batch_id, question.record_key))
            for question in lines.questions
        ]
        intent = Intent(
            batch_id=batch_id, mode=mode, task_key=self._task.task_key, prompt_id=self._lease.prompt_id,
            tasks_batch_id=self._lease.batch_id, model=prompt.model, fingerprint=file.fingerprint, request_count=len(records),
            estimated_tokens=estimate.tokens, reserved_usd=estimate.usd, deadline_at=now + timedelta(hours=genai.deadline_hours),
        )  # fmt: skip
        state.reserve(intent, records, now)
        self._batch.begin([question.item for question in lines.questions])
        return lines

    def _lines(
        self, batch_id: str, taken: Sequence[Question], prompt: Prompt, estimate: "_Estimate", lines: "_Lines"
    ) -> Iterator[dict[str, Any]]:
        """Yield the lines of a batch as long as there is room, and note what became of each question.

        A record whose media cannot be read stays out, and the others go without it.
        """
        for place, question in enumerate(taken):
            try:
                line = self._line(batch_id, question, prompt)
            except ChangedBytesError as error:
                lines.unreadable.append(self._outcomes.failed(question.item, error))
                continue
            except OSError as error:
                lines.unreadable.append(self._outcomes.failed(question.item, UnreadableMediumError(f"Cannot be read: {error}")))
                continue
            if not estimate.takes(line):
                lines.left += taken[place:]
                return
            lines.questions.append(question)
            yield line

    def _line(self, batch_id: str, question: Question, prompt: Prompt) -> dict[str, Any]:
        item = question.item
        media = [
            Media(medium.path, medium.mime_type, item.sha256 if medium.path == item.path else None) for medium in question.request.media
        ]
        token = item_token(batch_id, question.record_key)
        return request_line(question.record_key, token, question.request.text, media, prompt, self._settings.genai.inline_media_bytes)

    @contextmanager
    def _outbox_on_failure_removed(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            for folder in self._outbox:
                shutil.rmtree(folder, ignore_errors=True)
            raise

    @contextmanager
    def _given_back_on_budget(self) -> Iterator[None]:
        try:
            yield
        except BudgetReachedError:
            with self._connection.transaction():
                leases.give_back(self._connection, self._lease)
            raise


def _request_bytes(question: Question, inline_bytes: int) -> int:
    """Return about how large the line of a question is."""
    size = len(question.request.text.encode())
    for medium in question.request.media:
        try:
            medium_bytes = medium.path.stat().st_size
        except OSError:
            continue  # said when the line is written
        size += medium_bytes * 4 // 3 if medium_bytes <= inline_bytes else 0
    return size


@dataclass
class _Lines:
    """What became of the questions of a part: in the file, not readable, or left out for want of room."""

    questions: list[Question] = field(default_factory=list)
    unreadable: list[Event] = field(default_factory=list)
    left: list[Question] = field(default_factory=list)


class _Estimate:
    """Adds up what the lines of a batch may cost while they pass by on their way to the file, up to `room_usd`."""

    def __init__(self, prompt: Prompt, mode: Mode, prices: Sequence[ModelPrice], room_usd: Decimal) -> None:
        self._model = prompt.model
        self._mode = mode
        self._prices = prices
        self._room_usd = room_usd
        self._day = clock.now().date()
        self.tokens = 0
        self.usd = Decimal(0)
        self.refused_usd = Decimal(0)

    def takes(self, line: Mapping[str, Any]) -> bool:
        """Count a line, if there is room for it."""
        tokens = estimate_tokens(line)
        usd = estimate_usd(tokens, max_output_tokens(line), self._prices, self._model, self._mode, self._day)
        if self.usd + usd > self._room_usd:
            self.refused_usd = usd
            return False
        self.tokens, self.usd = self.tokens + tokens, self.usd + usd
        return True


def model_limits(settings: Settings, task_key: str) -> TaskSettings:
    """Return a task's limits with the attempts that the transport allows: a failed answer is one, waiting for another batch is none."""
    return settings.task(task_key).model_copy(update={"max_attempts": settings.genai.max_retries + 1})


def _not_tried(item: WorkItem) -> WorkItem:
    return msgspec.structs.replace(item, attempt=item.attempt - 1)


def prompt_of(profile: PromptProfile) -> Prompt:
    """Return what all requests of a profile share.

    Raises:
        ConfigurationError: the profile names no model.
    """
    if profile.model is None or profile.answer_schema is None:
        raise ConfigurationError(f"Profile '{profile.profile}' of {profile.task_key} names no model.")
    return Prompt(profile.model, profile.answer_schema, profile.generation)
