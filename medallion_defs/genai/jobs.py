"""What the provider says of a batch job and of a file, read from raw JSON. Pure, and tolerant.

One fact has several places on the wire: the result file is `metadata.output.responsesFile`, `response.responsesFile` or
`dest.fileName`, and small jobs carry their answers inline. Each place is looked at, and an empty one hides no other. A field
that is missing, new or of another type is as if it were not there: one odd job must not make a whole list unreadable.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

WELL = frozenset({"SUCCEEDED", "PARTIALLY_SUCCEEDED"})
_BADLY = frozenset({"FAILED", "CANCELLED", "EXPIRED"})
_ON_THE_WAY = frozenset({"", "UNSPECIFIED", "QUEUED", "PENDING", "RUNNING"})
# NOT_FOUND, PERMISSION_DENIED, FAILED_PRECONDITION, UNAUTHENTICATED, as gRPC and as HTTP number them.
_OF_ALL_REQUESTS = frozenset({5, 7, 9, 16, 401, 403, 404})
_OF_THE_MODEL = re.compile(
    r"\bmodels?\b.*\b(?:not (?:be )?found|not supported|unsupported|does not exist|no longer available)\b", re.IGNORECASE
)
_FILE_NAME = re.compile(r"files/[A-Za-z0-9_-]+")
_INLINED = ("inlinedResponses", "inlined_responses")

Json = Mapping[str, Any]


class JobState(msgspec.Struct, frozen=True):
    """What a status read says.

    Attributes:
        state: the wire's name without its prefix; one that is new to us is over when the wire says done.
        output_file: the result file; the job's own name when the answers are inside the job; None: no answers were found.
        announced_lines: how many answers there are to be, where the provider says it.
        error_code: of the error of the whole job, where the provider says it.
    """

    state: str
    output_file: str | None
    error: str | None
    is_done: bool = False
    announced_lines: int | None = None
    error_code: int | None = None

    @property
    def refuses_batch(self) -> bool:
        """Whether the job failed for what all its requests share (the model, the account), so that no record is at fault."""
        is_ours = self.error_code in _OF_ALL_REQUESTS or _OF_THE_MODEL.search(self.error or "") is not None
        return self.state == "FAILED" and self.output_file is None and is_ours

    @property
    def is_over(self) -> bool:
        return self.is_done or self.state in WELL | _BADLY

    @property
    def lacks_answers(self) -> bool:
        """Whether the job ended well, or does not say that it ended badly, and names no answers: they exist, and were paid for."""
        is_bad = self.state in _BADLY or (self.error is not None and self.state not in WELL)
        return self.is_over and self.output_file is None and not is_bad


class ListedJob(msgspec.Struct, frozen=True):
    """One job of a list, as far as it identifies the batch that it was made for."""

    name: str
    created_at: str
    display_name: str
    input_file: str


class FileFacts(msgspec.Struct, frozen=True):
    """What the provider announces of a file; None: it does not say. `sha256`: hex."""

    size: int | None = None
    sha256: str | None = None


def read_job(raw: bytes, name: str) -> JobState:
    """Read the answer to a status call for the job `name`.

    Raises:
        ValueError: it is not JSON, or says nothing of a state.
    """
    operation = _object(json.loads(raw))
    metadata = _at(operation, "metadata")
    is_done = operation.get("done") is True
    errors = [_at(operation, "error"), _at(metadata, "error")]
    error = _text(errors[0], "message") or _text(errors[1], "message") or None
    code = next((code for each in errors if (code := _count(each, "code")) is not None), None)
    state = _state(_text(metadata, "state") or _text(operation, "state"), is_done=is_done, is_error=error is not None)
    if not state:
        raise ValueError("the answer names no state of the job")
    return JobState(state, _output(operation, name), error, is_done, _announced(metadata), code)


def read_page(raw: bytes) -> tuple[list[ListedJob], str]:
    """Read one page of a list of jobs; return the jobs, and the token of the next page, if there is one.

    Raises:
        ValueError: it is not a JSON object.
    """
    page = json.loads(raw)
    if not isinstance(page, dict):
        raise ValueError("the list of jobs is not a JSON object")
    listed = page.get("operations") or page.get("batches") or page.get("batchJobs") or []
    jobs = [_listed(_object(job)) for job in listed if isinstance(job, dict)]
    return [job for job in jobs if job.name], _text(page, "nextPageToken")


def inlined_lines(raw: bytes) -> Iterator[bytes]:
    """Yield the answers that are inside a job as lines of a result file. A key is what the request's metadata said, never a position.

    Raises:
        ValueError: it is not JSON.
    """
    for place in _places(_object(json.loads(raw))):
        if answers := _inlined(place):
            for answer in answers:
                said = {name: answer[name] for name in ("response", "error") if name in answer}
                key = _text(_at(answer, "metadata"), "key") or _text(answer, "key")
                yield json.dumps(said | ({"key": key} if key else {}), ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"
            return


def read_file_facts(raw: bytes) -> FileFacts:
    """Read size and hash of a file.

    Raises:
        ValueError: it is not JSON.
    """
    file = _object(json.loads(raw))
    return FileFacts(_count(file, "sizeBytes"), _hex_sha256(_text(file, "sha256Hash")))


def _listed(operation: Json) -> ListedJob:
    metadata = _at(operation, "metadata")
    config = _at(metadata, "inputConfig") or _at(operation, "inputConfig") or _at(metadata, "src") or _at(operation, "src")
    return ListedJob(
        _text(operation, "name") or _text(metadata, "name"),
        _text(metadata, "createTime") or _text(operation, "createTime"),
        _text(metadata, "displayName") or _text(operation, "displayName"),
        _file_name(_text(config, "fileName")) or "",
    )


def _state(named: str, *, is_done: bool, is_error: bool) -> str:
    state = named.removeprefix("BATCH_STATE_").removeprefix("JOB_STATE_")
    if is_done and state in _ON_THE_WAY:
        return "FAILED" if is_error else "SUCCEEDED"
    return state


def _places(operation: Json) -> Iterator[Json]:
    """Yield every object that may say where the answers are."""
    for part in (_at(operation, "metadata"), _at(operation, "response"), operation):
        yield from (_at(part, "output"), _at(part, "dest"), part)


def _output(operation: Json, name: str) -> str | None:
    places = list(_places(operation))
    for place in places:
        if file := _file_name(_text(place, "responsesFile") or _text(place, "fileName")):
            return file
    return name if any(_inlined(place) for place in places) else None


def _inlined(place: Json) -> list[dict[str, Any]]:
    for name in _INLINED:
        answers = place.get(name)
        if isinstance(answers, dict):
            answers = answers.get(name)
        if isinstance(answers, list):
            return [answer for answer in answers if isinstance(answer, dict)]
    return []


def _announced(metadata: Json) -> int | None:
    stats = _at(metadata, "batchStats")
    counts = [_count(stats, name) for name in ("successfulRequestCount", "failedRequestCount")]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _file_name(text: str) -> str | None:
    """Return the name of a file, which may be inside of an address: the client cuts addresses at a hyphen."""
    found = _FILE_NAME.search(text)
    return found[0] if found else text or None


def _hex_sha256(text: str) -> str | None:
    """Return a stated hash as hex: it comes as hex, as base64 of the bytes, or as base64 of the hex."""
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return text.lower()
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    if len(raw) == 32:
        return raw.hex()
    return raw.decode().lower() if re.fullmatch(rb"[0-9a-fA-F]{64}", raw) else None


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("the answer is not a JSON object")
    return value


def _at(place: Json, name: str) -> dict[str, Any]:
    value = place.get(name, place.get(_snake(name)))
    return value if isinstance(value, dict) else {}


def _text(place: Json, name: str) -> str:
    value = place.get(name, place.get(_snake(name)))
    return value if isinstance(value, str) else ""


def _count(place: Json, name: str) -> int | None:
    value = place.get(name, place.get(_snake(name)))
    return int(value) if isinstance(value, int | str) and str(value).isdecimal() else None


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name)
