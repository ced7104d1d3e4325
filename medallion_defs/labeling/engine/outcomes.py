"""What became of an attempt, decided: results checked and validated, errors with their wait before the next try. Pure.

An `Event` is one row of `silver.tasks_status`. Nothing here reads a table or calls a processor.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Protocol, TypeVar
from uuid import UUID

import msgspec
from pydantic import BaseModel, ValidationError

from medallion_defs.core.errors import TerminalError, TransientError, describe_invalid, describe_unexpected
from medallion_defs.core.retry import retry_delay
from medallion_defs.core.sections import TaskSettings
from medallion_defs.labeling.contract import ProcessingResult
from medallion_defs.ops.endings import describe_error, error_type

EventKind = Literal["succeeded", "failed", "withdrawn", "discarded"]
# A NUL in JSON text, not a backslash followed by "u0000": Postgres refuses it in jsonb, and with it the whole COPY.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class MissingResultError(TransientError):
    """The processor came to its end without a word of the item."""


class DuplicateResultError(TerminalError):
    """The processor answered the item more than once; which answer is meant nobody can say."""


class ForeignResultError(TerminalError):
    """The processor answered an item that it was not asked about."""


class InvalidOutputError(TerminalError):
    """The output does not fit the task's output model."""


class MissingDependencyError(TransientError):
    """A task that the item depends on has no result."""


class Event(NamedTuple):
    """One row of `silver.tasks_status`, in the order in which it is copied there."""

    task_id: UUID
    task_key: str
    batch_id: int
    attempt: int
    event: EventKind
    worker: str
    duration_ms: float | None
    error_type: str | None
    error_message: str | None
    retry_seconds: float | None
    output: str | None
    usage: str | None
    cost_usd: Decimal | None
    code_version: str


class Tried(Protocol):
    """What an event says of its item: a `WorkItem` is one."""

    @property
    def task_id(self) -> UUID: ...
    @property
    def attempt(self) -> int: ...


class Begun(Protocol):
    """An item of a claimed batch: how often it was tried, and whether its worker died in the middle of it."""

    @property
    def attempts(self) -> int: ...
    @property
    def has_died(self) -> bool: ...


B = TypeVar("B", bound=Begun)


@dataclass(frozen=True)
class Outcomes:
    """Makes the events of one batch."""

    task_key: str
    batch_id: int
    worker: str
    code_version: str
    output_model: type[BaseModel]
    settings: TaskSettings

    def of_result(self, item: Tried, result: ProcessingResult) -> Event:
        """Return what the result makes of its item: succeeded, if the output is what the task promises."""
        try:
            output = None if result.error else validate_output(self.output_model, result.output)
        except InvalidOutputError as error:
            return self.failed(item, error, result)
        if output is None:
            return self.failed(item, result.error or InvalidOutputError("The result has neither an output nor an error."), result)
        return self.succeeded(item, output, result)

    def succeeded(self, item: Tried, output: str, result: ProcessingResult) -> Event:
        """Return a success; `output` is JSON text that was validated already."""
        return self._event(item.task_id, item.attempt, "succeeded", result=result, output=output)

    def failed(self, item: Tried, error: BaseException, result: ProcessingResult | None = None) -> Event:
        """Return a failure: tried again after a while, or never when the error is terminal or the attempts are used up."""
        wait = retry_seconds(error, item.attempt, self.settings)
        return self._event(item.task_id, item.attempt, "failed", result=result, error=error, retry_seconds=wait)

    def withdrawn(self, item: Tried) -> Event:
        """Return that the subject is not what it was when the item was planned; nothing was tried."""
        return self._event(item.task_id, item.attempt, "withdrawn")

    def discarded(self, task_id: UUID, error: BaseException) -> Event:
        """Return what the processor did that is no outcome of any item: an answer nobody asked for, an error after all answers."""
        return self._event(task_id, 0, "discarded", error=error)

    def _event(
        self,
        task_id: UUID,
        attempt: int,
        kind: EventKind,
        *,
        result: ProcessingResult | None = None,
        error: BaseException | None = None,
        retry_seconds: float | None = None,
        output: str | None = None,
    ) -> Event:
        described = describe_error(error) if error else {}
        return Event(
            task_id,
            self.task_key,
            self.batch_id,
            attempt,
            kind,
            self.worker,
            result.duration_ms if result else None,
            described.get("error_type"),
            described.get("message"),
            retry_seconds,
            output,
            msgspec.json.encode(result.usage).decode() if result and result.usage is not None else None,
            result.cost_usd if result else None,
            self.code_version,
        )


def validate_output(model: type[BaseModel], output: Mapping[str, Any] | None) -> str | None:
    """Return the output as JSON text, checked against the task's model; None stays None.

    Raises:
        InvalidOutputError: it does not fit; the message names each field.
    """
    if output is None:
        return None
    try:
        # By way of JSON: what is strict in a model then means JSON's types, in which dates are strings.
        text = model.model_validate_json(msgspec.json.encode(output)).model_dump_json()
    except ValidationError as error:
        wrong = describe_invalid(error, "output")
        raise InvalidOutputError(f"The output does not fit {model.__name__}: {wrong}.") from error
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOutputError(f"The output is not JSON: {error}.") from error
    except Exception as error:  # a task's own validators may raise anything; it is this answer's, and no other's
        raise InvalidOutputError(f"The check of the output raised {describe_unexpected(error)}.") from error
    if "\\u0000" in text and _NUL.search(text):
        raise InvalidOutputError("The output holds a NUL character, which no Postgres text can.")
    return text


def retry_seconds(error: BaseException, attempt: int, settings: TaskSettings) -> float | None:
    """Return the wait before the next attempt; None when there is none. Doubles with each attempt, up to an hour."""
    if isinstance(error, TerminalError) or attempt >= settings.max_attempts:
        return None
    base = settings.retry_seconds_by_error.get(error_type(error), settings.retry_seconds)
    return retry_delay(attempt, base).total_seconds()


def cut_slices(items: Sequence[B], max_attempts: int) -> tuple[list[B], list[list[B]]]:
    """Return the items that died with their worker as often as they may, and the others in the slices to call the processor with.

    What was never begun goes in one slice. Items whose worker died are tried again in ever smaller slices, the last attempt
    alone: one poison item of 500 must not take the other 499 down with it.
    """
    slices: dict[int, list[B]] = {}
    for item in items:
        slices.setdefault(item.attempts if item.has_died else 0, []).append(item)
    spent = [item for attempts in [*slices] if attempts >= max_attempts for item in slices.pop(attempts)]
    return spent, [
        part for attempts, stream in sorted(slices.items()) for part in _parts(stream, _most(len(items), attempts, max_attempts))
    ]


def _most(items: int, attempts: int, max_attempts: int) -> int:
    left = 1 - attempts / max(max_attempts - 1, 1)
    return round(math.pow(items, left))


def _parts(items: list[B], most: int) -> list[list[B]]:
    return [items[start : start + most] for start in range(0, len(items), most)]
