"""From an answer that cannot be used to its line in the failure log: all that is needed to understand it, and to parse it again. Pure."""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from medallion_defs.genai.answers import Problem, decode_object
from medallion_defs.genai.match import UnreadableLine
from medallion_defs.genai.requests import RESPONSES_FILE
from medallion_defs.genai.state import Failure, GenaiBatch, RequestRecord
from medallion_defs.labeling.prompts import PromptProfile

_MOST_UNREADABLE = 1_000


def failure_of(record: RequestRecord, problem: Problem, traceback: str | None, batch: GenaiBatch, profile: PromptProfile | None) -> Failure:
    """Return the line for a record without an answer. `traceback`: of what its validation raised."""
    raw = problem.raw
    return Failure(
        record_key=record.record_key,
        batch_id=batch.batch_id,
        attempt_number=record.attempt,
        error_type=problem.error_type,
        error_message=problem.message,
        error_traceback=traceback,
        raw_response_text=raw.decode("utf-8", "replace") if raw else None,
        extracted_text=problem.text,
        raw_response_json=_whole_object(raw) if raw else None,
        model_name=batch.model,
        prompt_name=profile.profile if profile else None,
        prompt_template=profile.template if profile else None,
        generation_config=profile.generation if profile else None,
    )


def unreadable_failures(lines: Mapping[int, UnreadableLine], batch: GenaiBatch) -> Iterator[Failure]:
    """Yield the lines that are no result, for the log, the first 1,000: by their place, for they name no record."""
    for number, line in islice(lines.items(), _MOST_UNREADABLE):
        yield Failure(
            record_key=f"line {number}", batch_id=batch.batch_id, attempt_number=0, error_type="UnreadableLine",
            error_message=f"Line {number} of {RESPONSES_FILE} is no result: {line.error}",
            raw_response_text=line.raw.decode("utf-8", "replace"), model_name=batch.model,
        )  # fmt: skip


def _whole_object(raw: bytes) -> dict[str, Any] | None:
    """Return a result line as the JSON object that it is; None when it is none, or nests deeper than the database takes."""
    try:
        return decode_object(raw)
    except (ValueError, RecursionError):
        return None
