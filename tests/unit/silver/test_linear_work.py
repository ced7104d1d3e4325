"""Twice the bytes, twice the work, whatever the bytes: what an adversary or a broken export sends costs no more than its size.

Steps are counted, not seconds: tokens and bytes that the reader of arrays looks at, function calls of Python and of C in the rest.
"""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medallion_defs.core.errors import MedallionError
from medallion_defs.silver import json_reader
from medallion_defs.silver.csv_reader import _column_names
from medallion_defs.silver.json_reader import ArrayReader
from medallion_defs.silver.reader import InputFile
from tests.local_files import opener
from tests.unit.silver.conftest import Extract

MOST = 2.6  # of twice the size; a square would be 4


class Counting:
    """A compiled pattern that counts what it looks at: the bytes between the start of each search and where it ended."""

    def __init__(self, pattern: re.Pattern[bytes], steps: list[int]) -> None:
        self._pattern, self._steps = pattern, steps

    def match(self, text: bytes, at: int) -> re.Match[bytes] | None:
        return self._note(self._pattern.match(text, at), at)

    def search(self, text: bytes, at: int) -> re.Match[bytes] | None:
        return self._note(self._pattern.search(text, at), at, len(text))

    def finditer(self, text: bytes, at: int) -> Iterator[re.Match[bytes]]:
        for found in self._pattern.finditer(text, at):
            self._note(found, at)
            at = found.end()
            yield found

    def _note(self, found: re.Match[bytes] | None, at: int, end: int | None = None) -> re.Match[bytes] | None:
        self._steps.append(1 + (found.end() if found else at if end is None else end) - at)
        return found


ARRAYS: dict[str, Callable[[int], bytes]] = {
    "objects in lists, never closed": lambda n: b"[" + b'{"a":[' * n + b"]",
    "the same below a good record": lambda n: b'[{"a":1},' + b'{"a":[{"a":1},' * n + b"]",
    "objects never closed": lambda n: b"[" + b"{" * n,
    "lists never closed": lambda n: b"[" + b"[" * n,
    "lists in lists": lambda n: b"[" * n + b"]" * n,
    "brackets before objects": lambda n: b"[" + b"[{" * n + b"]",
    "closing brackets": lambda n: b'[{"a":1}' + b"]" * n + b"x]",
    "commas": lambda n: b"[" + b"," * n + b"]",
    "quotes": lambda n: b"[" + b'"' * n + b"]",
    "texts never closed": lambda n: b"[" + b'{"a":"' * n + b"]",
    "escaped quotes": lambda n: b'[{"a":"' + b'\\"' * n + b'"]]',
    "blanks after the end": lambda n: b'[{"a":1}]' + b" " * n + b"]",
    "blanks within": lambda n: b"[{" + b" " * n + b"{]",
    "one kind of break, many times": lambda n: b'[{"a":1},' + b'{"a":{"b":{"c":[1,2}}}},' * n + b"]",
    "good records": lambda n: b"[" + b'{"a":{"b":{"c":[1,2]}}},' * n + b'{"a":1}]',
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    steps: list[int] = []
    for pattern in ("_TOKEN", "_PLAIN_OBJECT", "_NEXT_OBJECT", "_SPACE", "_STRING"):
        monkeypatch.setattr(json_reader, pattern, Counting(getattr(json_reader, pattern), steps))
    compile_pattern = re.compile
    monkeypatch.setattr(json_reader.re, "compile", lambda *given: Counting(compile_pattern(*given), steps))

    def work(size: int) -> int:
        steps.clear()
        (tmp_path / "artifact").write_bytes(ARRAYS[name](size))
        with contextlib.suppress(MedallionError):
            steps.append(sum(1 for _ in ArrayReader(InputFile(opener(tmp_path / "artifact"), "e.json"))))
        return sum(steps)

    assert work(10_000) <= MOST * work(5_000)


def _many_names(number: int) -> bytes:
    return ",".join(["company_id", *(f"c{place}" for place in range(number))]).encode() + b"\n"


FILES: dict[str, tuple[str, str, Callable[[int], bytes]]] = {
    "a CSV header of many columns": ("c.csv", "companies", _many_names),
    "a CSV record of many cells": ("c.csv", "companies", lambda n: _many_names(n) + b"A" + b",1" * n + b"\n"),
    "quotes never closed": ("c.csv", "companies", lambda n: b"company_id,name\n" + b'A,"one\n' * n),
    "one quote above plain lines": ("c.csv", "companies", lambda n: b'company_id,name\nA,"one\n' + b"B,two\n" * n),
    "cells of two lines with too many cells": ("c.csv", "companies", lambda n: b"company_id,name\n" + b'A,"x\ny",z\n' * n),
    "bad bytes": ("c.csv", "companies", lambda n: b"company_id,name\n" + b"A,\xfc\n" * n),
    "the header again and again": ("c.csv", "companies", lambda n: b"company_id,name\n" + b"name,company_id\n" * n),
    "keys of one record": ("e.jsonl", "driver_events", lambda n: b'{"event_id":"a"' + b"".join(b',"k%d":1' % i for i in range(n)) + b"}"),
    "one key many times": ("e.jsonl", "driver_events", lambda n: b'{"event_id":"a","attributes":{"k":0' + b',"k":1' * n + b"}}"),
    "one key many times, its numbers taken": (
        "e.jsonl", "driver_events",
        lambda n: b'{"event_id":"a","attributes":{' + b"".join(b'"k_%d":0,' % i for i in range(n)) + b'"k":1' + b',"k":1' * n + b"}}",
    ),
    "tiny lines": ("e.jsonl", "driver_events", lambda n: b"{}\n" * n),
    "blank lines": ("e.jsonl", "driver_events", lambda n: b"\n" * n),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_files(extract: Extract, name: str) -> None:
    filename, source, content = FILES[name]

    def work(size: int) -> int:
        steps = 0

        def count(frame: object, event: str, what: object) -> None:
            nonlocal steps
            steps += event in ("call", "c_call")

        before = sys.getprofile()
        sys.setprofile(count)
        try:
            extract(filename, content(size), source)
        finally:
            sys.setprofile(before)
        return steps

    work(10)  # what is made once
    assert work(2_000) <= MOST * work(1_000) + 1_000


class CountedName(str):
    """A column's name that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        CountedName.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_names_of_columns_are_not_compared_each_with_all(tmp_path: Path) -> None:
    names: list[str] = [CountedName(f"c{place}") for place in range(2_000)]
    assert _column_names(InputFile(opener(tmp_path), "c.csv"), names) == names
    assert CountedName.compared < 3 * len(names)
