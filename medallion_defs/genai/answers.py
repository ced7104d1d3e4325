"""From the provider's JSON to an answer or a problem. Pure, and tolerant: a field that is new or missing changes nothing.

The client's own response types refuse unknown fields and drop errors, so results are read as raw JSON into the structs here.
A finish reason other than STOP never gives an answer: half a JSON object can be valid, and wrong.
"""

import json
import re
from codecs import BOM_UTF8
from typing import Annotated, Any

import msgspec

# Raised by hand when the same result line gives something else: it is part of the answers' code version.
PARSING = 2
ErrorType = str
# Of gRPC: cancelled, unknown, deadline exceeded, resource exhausted, aborted, internal, unavailable; of HTTP, what says the same. No
# code at all says nothing against asking again.
_TRANSIENT_CODES = frozenset({None, 0, 1, 2, 4, 8, 10, 13, 14, 408, 409, 425, 429, 499})
_SERVER_ERRORS = 500
_FINISH_ERRORS = {
    "MAX_TOKENS": "MaxTokens",
    "SAFETY": "Safety",
    "RECITATION": "Recitation",
    "PROHIBITED_CONTENT": "Blocked",
    "BLOCKLIST": "Blocked",
    "SPII": "Blocked",
    "LANGUAGE": "Language",
}
_MOST_LEVELS = 100
_FIRST_VALUE = json.JSONDecoder()
_BRACKET = re.compile(r"[{}\[\]]")


_Tokens = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


class Usage(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """Token counts of one response, as the provider bills them. `prompt_token_count` includes the cached tokens."""

    prompt_token_count: _Tokens = 0
    cached_content_token_count: _Tokens = 0
    candidates_token_count: _Tokens = 0
    thoughts_token_count: _Tokens = 0
    tool_use_prompt_token_count: _Tokens = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))


class _Part(msgspec.Struct, frozen=True):
    text: str | None = None
    thought: bool | None = False


class _Content(msgspec.Struct, frozen=True):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, frozen=True, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None
    finish_message: str | None = None


class _Feedback(msgspec.Struct, frozen=True, rename="camel"):
    block_reason: str | None = None


class Response(msgspec.Struct, frozen=True, rename="camel"):
    """What is read of a GenerateContentResponse."""

    candidates: list[_Candidate] | None = None
    prompt_feedback: _Feedback | None = None
    usage_metadata: msgspec.Raw = msgspec.Raw(b"null")


class ItemError(msgspec.Struct, frozen=True):
    """What is read of an error line. `code` is a gRPC code or an HTTP status: the provider uses both."""

    code: int | None = 0
    message: str | None = ""


class ResultLine(msgspec.Struct, frozen=True):
    """One line of a batch's result file. What is said of the record is read apart: it is the record's own, however odd it is."""

    key: str | None = None
    response: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


class Answer(msgspec.Struct, frozen=True):
    """An answer that ended as it should; `text` is not validated yet. `usage`: None when it is not stated."""

    text: str
    usage: Usage | None


class Problem(msgspec.Struct, frozen=True):
    """Why a record has no answer.

    Attributes:
        error_type: MissingResponse, DuplicateResponse, SwappedResponse, UnreadableResponse, ProviderError, Blocked, MaxTokens …
        is_terminal: asking again would give the same.
        text: what of the answer there is.
        usage: what was used all the same; None: not stated, so it may be anything.
        raw: the result line, as it came.
    """

    error_type: ErrorType
    message: str
    is_terminal: bool = False
    text: str | None = None
    usage: Usage | None = Usage()
    raw: bytes | None = None


_decode_line = msgspec.json.Decoder(ResultLine).decode
_decode_response = msgspec.json.Decoder(Response).decode
_decode_error = msgspec.json.Decoder(ItemError).decode
_decode_usage = msgspec.json.Decoder(Usage).decode


def decode_line(line: bytes) -> ResultLine:
    """Read one line of a result file, as `bare` leaves it.

    Raises:
        ValueError, RecursionError: it is not a JSON object, or nests too deep.
    """
    return _decode_line(line)


def bare(line: bytes) -> bytes:
    """Return a line without the blanks around it, and without byte order marks, which joined files have in their middle."""
    line = line.strip()
    while line.startswith(BOM_UTF8):
        line = line.removeprefix(BOM_UTF8).lstrip()
    return line


def read_line(line: ResultLine) -> Answer | Problem:
    """Return what a result line says about its record."""
    try:
        if _is_there(line.error):
            return read_error(_decode_error(line.error))
        if _is_there(line.response):
            return read_response(_decode_response(line.response))
    except (ValueError, RecursionError) as error:
        return Problem("UnreadableResponse", f"The result line is not what a result should be: {error}", usage=None)
    return Problem("EmptyResponse", "The result line has neither a response nor an error.", usage=None)


def read_error(error: ItemError) -> Problem:
    """Return the problem of a record that the provider refused or could not serve."""
    return Problem("ProviderError", f"code {error.code}: {error.message}", is_terminal=_is_final(error.code))


def _is_final(code: int | None) -> bool:
    return code not in _TRANSIENT_CODES and (code is None or code < _SERVER_ERRORS)


def read_response(response: Response) -> Answer | Problem:
    """Return the text of the first candidate, without its thoughts, or why there is none to trust."""
    text = _text(response.candidates[0]) if response.candidates else None
    usage = _usage(response.usage_metadata, is_answered=text is not None)
    if response.prompt_feedback is not None and response.prompt_feedback.block_reason:
        reason = response.prompt_feedback.block_reason
        return Problem("Blocked", f"The prompt was blocked: {reason}.", is_terminal=True, usage=usage)
    if not response.candidates:
        return Problem("EmptyCandidates", "The response has no candidates.", usage=usage)
    candidate = response.candidates[0]
    if candidate.finish_reason != "STOP":
        return _unfinished(candidate, text, usage)
    if not text:
        return Problem("EmptyCandidates", "The candidate ended with STOP and has no text.", usage=usage)
    return Answer(text, usage)


def _is_there(raw: msgspec.Raw) -> bool:
    return bytes(raw).strip() not in (b"", b"null")


def _usage(stated: msgspec.Raw, *, is_answered: bool) -> Usage | None:
    """Return the counts that are stated; None when one is not a count, or one is missing that cannot be zero."""
    try:
        usage = _decode_usage(stated)
    except ValueError:
        return None
    is_whole = usage.prompt_token_count > 0 and (usage.candidates_token_count > 0 or not is_answered)
    return usage if is_whole else None


def _text(candidate: _Candidate) -> str | None:
    if candidate.content is None:
        return None
    return "".join(part.text for part in candidate.content.parts or () if part.text and not part.thought) or None


def _unfinished(candidate: _Candidate, text: str | None, usage: Usage | None) -> Problem:
    reason = candidate.finish_reason or "without a reason"
    message = f"The answer ended with {reason}" + (f": {candidate.finish_message}" if candidate.finish_message else ".")
    if reason == "MAX_TOKENS":
        message += " Raise max_output_tokens in the prompt profile."
    return Problem(_FINISH_ERRORS.get(reason, "NotFinished"), message, text=text, usage=usage)


def find_object(text: str) -> tuple[dict[str, Any], bool]:
    """Return the JSON object that `text` is, or the one that stands in it, and whether there is anything around it.

    A model puts its answer in a code fence, or a sentence before it. That is read when nothing else in the text could be meant:
    the first brace begins an object that is whole, and there is no bracket outside of it.

    Raises:
        ValueError, RecursionError: there is none, or more than one could be meant, or it nests too deep.
    """
    try:
        return decode_object(text), False
    except msgspec.DecodeError:
        start = text.find("{")
        if start < 0:
            raise
        _, end = _FIRST_VALUE.raw_decode(text, start)
        if _BRACKET.search(text[:start]) or _BRACKET.search(text, end):
            raise
        return decode_object(text[start:end]), True


def decode_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object that `text` is.

    Raises:
        ValueError, RecursionError: it is not one, or nests too deep.
    """
    value = msgspec.json.decode(text, type=dict[str, Any])
    if _may_nest(text) and not _is_within(value, _MOST_LEVELS):
        raise ValueError(f"It nests more than {_MOST_LEVELS} levels deep.")
    return value


def _may_nest(text: str | bytes) -> bool:
    # As many brackets as levels must be there: of nearly every answer, counting them is all.
    if isinstance(text, str):
        return text.count("{") + text.count("[") >= _MOST_LEVELS
    return text.count(b"{") + text.count(b"[") >= _MOST_LEVELS


def _is_within(value: Any, levels: int) -> bool:
    # What is deeper can be decoded here, and breaks encoders and the database's parser later.
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_within(part, levels - 1) for part in parts)
