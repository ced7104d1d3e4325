"""Which answer belongs to which record: by key alone, each key exactly once, and only if the item token agrees. Pure.

The provider may lose lines, repeat them, shuffle them, and has been seen to put one record's answer under another's key. So
position means nothing, and each request asks for an echo of its token, which only its own answer can have. A line that is there
twice to the byte is one line: a file was joined with itself, and nothing was answered, or paid, twice.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from medallion_defs.genai.answers import Answer, Problem, ResultLine, Usage, bare, decode_line, find_object, read_line

# Raised by hand when the same lines are matched otherwise: it is part of the answers' code version.
MATCHING = 1
TOKEN_FIELD = "item_token"
_SEVERAL = "The result file has several lines for this record."


class Matched(msgspec.Struct, frozen=True):
    """A record's own answer: the JSON object without the token. `raw`: the result line, as it came.

    `has_text_around`: the answer was not the object alone, as it was asked for.
    """

    output: dict[str, Any]
    text: str
    usage: Usage | None
    raw: bytes
    has_text_around: bool = False


class UnreadableLine(msgspec.Struct, frozen=True):
    """A line of a result file that is no result, and why."""

    raw: bytes
    error: str


@dataclass
class Matching:
    """Matches the lines of one result file with what was asked, one line at a time: an answer file may have any size.

    Attributes:
        tokens: the item token of each record key of the batch.
        repeated: keys that several different lines have. Which of them is the record's own cannot be known; each was paid for.
        foreign_keys: keys of lines that belong to no request; complete when the outcomes have been read.
        more_usages: what lines used that are no record's outcome: foreign, unreadable, and the further ones of a record. They are on
            the bill like the others; None: not stated.
        unreadable: lines that are no result, by 1-based line number.
        missing_usage: what a record without a line used; None: not known.
    """

    tokens: Mapping[str, str]
    repeated: Set[str] = frozenset()
    foreign_keys: list[str] = field(default_factory=list)
    more_usages: list[Usage | None] = field(default_factory=list)
    unreadable: dict[int, UnreadableLine] = field(default_factory=dict)
    missing_usage: Usage | None = None

    def outcomes(self, lines: Iterable[bytes]) -> Iterator[tuple[str, Matched | Problem]]:
        """Yield every key that was asked, exactly once, with its answer or its problem."""
        waiting = set(self.tokens)
        duplicates: dict[str, Problem] = {}
        for line, result in self._read(lines):
            key = result.key
            if key is None or key not in self.tokens:
                self.foreign_keys.append(str(key))
                self.more_usages.append(read_line(result).usage)
            elif key in duplicates:
                self.more_usages.append(read_line(result).usage)
            elif key in self.repeated:
                duplicates[key] = Problem("DuplicateResponse", _SEVERAL, usage=read_line(result).usage, raw=line)
            else:
                waiting.remove(key)
                yield key, check_answer(self.tokens[key], read_line(result), line)
        yield from duplicates.items()
        yield from self._missing([key for key in self.tokens if key in waiting and key not in duplicates])

    def _missing(self, keys: Sequence[str]) -> Iterator[tuple[str, Problem]]:
        """Yield the records without a line. A line that names no record of ours is on the bill, and stands for one of them."""
        lines_for_them = len(self.unreadable) + len(self.foreign_keys)
        for place, key in enumerate(keys):
            usage = Usage() if place < lines_for_them else self.missing_usage
            yield key, Problem("MissingResponse", "The batch ended without a line for this record.", usage=usage)

    def _read(self, lines: Iterable[bytes]) -> Iterator[tuple[bytes, ResultLine]]:
        """Yield what can be read, each line once."""
        seen: set[int] = set()
        for number, line in enumerate(lines, start=1):
            text = bare(line)
            try:
                if text and (mark := hash(text)) not in seen:
                    yield line, decode_line(text)
                    seen.add(mark)
            except (ValueError, RecursionError) as error:
                self.unreadable[number] = UnreadableLine(line, str(error))
                self.more_usages.append(None)


def find_repeated(lines: Iterable[bytes]) -> Set[str]:
    """Return the keys that several different lines of a result file have: to be known before the first line is believed."""
    seen: dict[str, int] = {}
    repeated: set[str] = set()
    for line in lines:
        text = bare(line)
        # A line that is no result is named when the outcomes are read.
        with suppress(ValueError, RecursionError):
            if (key := decode_line(text).key) is not None and seen.setdefault(key, hash(text)) != hash(text):
                repeated.add(key)
    return repeated


def check_answer(token: str, answer: Answer | Problem, raw: bytes) -> Matched | Problem:
    """Return the answer's JSON object if it echoes `token`."""
    if isinstance(answer, Problem):
        return msgspec.structs.replace(answer, raw=raw)
    try:
        output, has_text_around = find_object(answer.text)
    except (ValueError, RecursionError) as error:
        return Problem("JSONDecodeError", f"The answer is not a JSON object: {error}", text=answer.text, usage=answer.usage, raw=raw)
    echoed = output.pop(TOKEN_FIELD, None)
    if echoed != token:
        message = f"The answer carries the item token {echoed!r} instead of {token!r}: it is another record's answer."
        return Problem("SwappedResponse", message, text=answer.text, usage=answer.usage, raw=raw)
    return Matched(output, answer.text, answer.usage, raw, has_text_around)
