"""Which answer belongs to which record: by key alone, each key exactly once, and only if the item token agrees. Pure.

The provider may lose lines, repeat them, shuffle them, and has been seen to put one record's answer under another's key. So
position means nothing, and each request asks for an echo of its token, which only its own answer can have.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from medallion_defs.genai.answers import Answer, Problem, Usage, decode_line, decode_object, read_line

TOKEN_FIELD = "item_token"


@dataclass(frozen=True)
class Matched:
    """A record's own answer: the JSON object without the token. `raw`: the result line, as it came."""

    output: dict[str, Any]
    text: str
    usage: Usage
    raw: bytes


@dataclass
class Matching:
    """All records of a batch, each with its answer or its problem; and what came that nobody asked for.

    Attributes:
        outcomes: by record key; exactly the keys that were asked.
        foreign_keys: keys of lines that belong to no request.
        unreadable: lines that are no result, by 1-based line number.
    """

    outcomes: dict[str, Matched | Problem] = field(default_factory=dict)
    foreign_keys: list[str] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)


def match_answers(tokens: Mapping[str, str], lines: Iterable[bytes]) -> Matching:
    """Match the lines of a result file with what was asked.

    Args:
        tokens: the item token of each record key of the batch.
        lines: the result file's lines.
    """
    matching = Matching()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            _take(matching, tokens, number, line)
    for key in tokens:
        if key not in matching.outcomes:
            matching.outcomes[key] = Problem("MissingResponse", "The batch ended without a line for this record.")
    return matching


def _take(matching: Matching, tokens: Mapping[str, str], number: int, line: bytes) -> None:
    try:
        result = decode_line(line)
    except (ValueError, RecursionError) as error:
        matching.unreadable[number] = str(error)
        return
    if result.key is None or result.key not in tokens:
        matching.foreign_keys.append(str(result.key))
    elif result.key in matching.outcomes:
        # Which of them is the record's own cannot be known; each was paid for.
        usage = matching.outcomes[result.key].usage + read_line(result).usage
        message = "The result file has several lines for this record."
        matching.outcomes[result.key] = Problem("DuplicateResponse", message, usage=usage, raw=line)
    else:
        matching.outcomes[result.key] = check_answer(tokens[result.key], read_line(result), line)


def check_answer(token: str, answer: Answer | Problem, raw: bytes) -> Matched | Problem:
    """Return the answer's JSON object if it echoes `token`."""
    if isinstance(answer, Problem):
        return msgspec.structs.replace(answer, raw=raw)
    try:
        output = decode_object(answer.text)
    except (ValueError, RecursionError) as error:
        return Problem("JSONDecodeError", f"The answer is not a JSON object: {error}", text=answer.text, usage=answer.usage, raw=raw)
    echoed = output.pop(TOKEN_FIELD, None)
    if echoed != token:
        message = f"The answer carries the item token {echoed!r} instead of {token!r}: it is another record's answer."
        return Problem("SwappedResponse", message, text=answer.text, usage=answer.usage, raw=raw)
    return Matched(output, answer.text, answer.usage, raw)
