"""JSON Lines and JSON arrays: what breaks a record breaks only that record."""

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from medallion_defs.silver import json_reader, reader
from medallion_defs.silver.reader import InputFile, UnexpectedFormatError, UnreadableFileError
from tests.unit.silver.conftest import Extract

BROKEN = {
    b'{"event_id":"x"': "malformed_json",
    b'{"event_id":"x"} trailing': "malformed_json",
    b'{"event_id":"x",}': "malformed_json",
    b"not json at all": "malformed_json",
    b'{"event_id":NaN}': "malformed_json",
    b'{"event_id":"\\ud800"}': "malformed_json",
    b'{"event_id":"x","attributes":{"k\\ud800":1}}': "malformed_json",
    b'{"event_id":"\xff"}': "invalid_encoding",
    b'{"event_id":"\\u0000"}': "nul_character",
    b'{"event_id":"x","attributes":{"a":["\\\\\\u0000"]}}': "nul_character",
    b'{"event_id":"x\0"}': "nul_character",
    b'{"event_id":"x","firmware":"\\u0000"}': "nul_character",
    b'{"event_id":"x","attributes":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001: "record_too_deep",
    b'{"event_id":"x","unknown":' + b"[" * 100_000 + b"]" * 100_000 + b"}": "record_too_deep",
    b'{"event_id":5}': "invalid_value",
    b'{"event_id":"x","event_at":"yesterday"}': "invalid_value",
    b'{"event_id":"x","event_at":1767600000}': "invalid_value",
    b'{"event_id":"x","event_at":"0001-01-01T00:00:00+14:00"}': "invalid_value",
    b'{"event_id":"x","event_at":"9999-12-31T23:59:59-12:00"}': "invalid_value",
    b'{"event_id":"x","speed_kmh":1e999}': "invalid_value",
    b'{"event_id":"x","speed_kmh":"50"}': "invalid_value",
    b'{"event_id":"x","attributes":[]}': "invalid_value",
    b'{"event_id":"x","attributes":{"n":1e999}}': "invalid_value",
    b'{"event_id":"x","attributes":"{}","firmware":1}': "invalid_value",
    b'{"event_id":"' + b"k" * 257 + b'"}': "invalid_value",
    b'"text"': "invalid_value",
    b"5": "invalid_value",
    b"null": "invalid_value",
    b'{"event_id":" \\t"}': "missing_key",
    b'{"event_id":null}': "missing_key",
    b"{}": "missing_key",
}


@pytest.mark.parametrize(("raw", "code"), BROKEN.items(), ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else value)
def test_a_broken_line_is_rejected_by_its_code_and_its_neighbours_are_kept(extract: Extract, raw: bytes, code: str) -> None:
    got = extract("e.jsonl", b'{"event_id":"a"}\n' + raw + b'\n{"event_id":"b"}')
    assert got.keys == [(1, "a"), (3, "b")]
    assert got.codes == [(2, code)]
    assert "\0" not in got.rejects[0].excerpt + got.rejects[0].message
    assert len(got.rejects[0].excerpt.encode()) <= 1024


@pytest.mark.parametrize(
    ("raw", "code"),
    [(raw, code) for raw, code in BROKEN.items() if raw not in (b'{"event_id":"x"',)],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else value,
)
def test_a_broken_element_is_rejected_by_its_code_and_its_neighbours_are_kept(extract: Extract, raw: bytes, code: str) -> None:
    got = extract("e.json", b'[{"event_id":"a"},\n' + raw + b' ,{"event_id":"b"} ]\n')
    assert got.rows[0][1] == "a"
    assert got.rows[-1][1] == "b"
    if code not in ("malformed_json", "nul_character"):
        assert got.codes == [(2, code)]
        assert got.keys == [(1, "a"), (3, "b")]


def test_text_that_only_looks_like_an_escaped_nul_is_kept(extract: Extract) -> None:
    got = extract("e.jsonl", rb'{"event_id":"a\\u0000","driver_id":"d"}' + b"\n")
    assert got.rows[0][1] == r"a\u0000"


def test_messages_name_the_field(extract: Extract) -> None:
    got = extract("e.jsonl", b'{"event_id":"x","latitude":"north"}\n{"event_id":"x","firmware":1,"attributes":{"a":{"b":1e999}}}\n')
    assert got.rejects[0].message == "latitude: Expected float | null, got str."
    assert "out of range" in got.rejects[1].message


def test_unknown_fields_move_to_attributes_and_meet_no_name_of_their_own(extract: Extract) -> None:
    line = {"event_id": "a", "driver_id": "d", "company_id": "C", "event_type": "position", "event_at": "2026-01-05T08:00:00Z"}
    got = extract("e.jsonl", json.dumps({**line, "x": [1], "attributes": {"x": 0}}).encode())
    assert got.rows[0][-2:] == ('{"x":0,"x_":[1]}', "unknown_fields")


def test_blank_lines_and_a_missing_last_line_end_are_fine(extract: Extract) -> None:
    got = extract("e.ndjson.gz", gzip.compress(b'\xef\xbb\xbf\n{"event_id":"a"}\r\n  \r{"event_id":"b"}'))
    assert got.keys == [(2, "a"), (4, "b")]
    assert not got.rejects


def test_an_empty_file_of_lines_has_no_records_and_an_empty_array_file_is_cut_off(extract: Extract) -> None:
    assert extract("e.jsonl", b"") == ([], [])
    assert extract("e.json", b" [ ] \n") == ([], [])
    with pytest.raises(UnexpectedFormatError, match=r"e\.json: expected a JSON array"):
        extract("e.json", b"")


@pytest.mark.parametrize(
    ("name", "content"), [("e.jsonl", b'[{"event_id":"a"}]'), ("e.jsonl", b'[\n{"event_id":"a"}]'), ("e.json", b'{"event_id":"a"}\n')]
)
def test_lines_for_an_array_and_an_array_for_lines_are_refused_with_the_remedy(extract: Extract, name: str, content: bytes) -> None:
    with pytest.raises(UnexpectedFormatError, match=r"(N|n)ame (it|the file) \.json"):
        extract(name, content)


@pytest.mark.parametrize(
    "content", [b"[", b'[{"event_id":"a"}', b'[{"event_id":"a"},', b'[{"event_id":"a"},{"event_id":["b"],"dri', b'[{"event_id":"a']
)
def test_a_cut_off_array_is_refused(extract: Extract, content: bytes) -> None:
    with pytest.raises(UnreadableFileError, match="not closed; the file is cut off"):
        extract("e.json", content)


A, B, C = b'{"event_id":"a"}', b'{"event_id":"b","attributes":{"n":{"m":[1,{"o":2}]}}}', b'{"event_id":"c"}'


@pytest.mark.parametrize(
    ("content", "kept", "rejected"),
    [
        (b"[%b,%b,%b]" % (A, B, C), "abc", 0),
        (b"[\n  %b,\n  %b\n,%b\n]\n" % (A, B, C), "abc", 0),
        (b"[%b;%b,%b]" % (A, B, C), "abc", 1),
        (b"[%b]%b,%b]" % (A, B, C), "abc", 1),
        (b"[%b],%b,%b]" % (A, B, C), "abc", 1),
        (b"[%b,,%b,%b]" % (A, B, C), "abc", 1),
        (b"[%b,%b,%b,]" % (A, B, C), "abc", 0),
        (b"[%b,%b,%b" % (A, B[:-1], C) + b"]", "ac", 1),
        (b"[%b,%b,%b]" % (A, B[:-3] + b")}}", C), "ac", 1),
        (b"[%b,%b,%b]" % (A, B.replace(b'd":"', b'd:"'), C), "ac", 1),
        (b"[%b,%b,%b]" % (A, B.replace(b'{"n"', b'{n"'), C), "ac", 1),
        (b"[%b,%b,%b]" % (A, B.replace(b"[1", b"(1"), C), "ac", 1),
        (b"[%b,%b,%b]" % (A, B, C[:-1]), "ab", 1),
        (b"[%b,%b,%b]" % (A, B, C[:-2] + b"}"), "ab", 1),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, 7, 262_144])
def test_a_damaged_element_of_an_array_costs_itself(
    extract: Extract, monkeypatch: pytest.MonkeyPatch, content: bytes, kept: str, rejected: int, chunk_bytes: int
) -> None:
    monkeypatch.setattr(reader, "CHUNK_BYTES", chunk_bytes)
    got = extract("e.json", content)
    assert "".join(key for _, key in got.keys) == kept
    assert len(got.codes) == rejected


def test_an_overlong_element_costs_itself(extract: Extract, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_reader, "MAX_RECORD_BYTES", 300_000)
    for size in (300_001, 2_000_000):
        got = extract("e.json", b"[%b,{%b},%b]" % (A, b'"event_id":"%b"' % (b"x" * size), C))
        assert got.keys == [(1, "a"), (3, "c")]
        assert got.codes == [(2, "record_too_long")]


def test_an_array_larger_than_its_parts_streams_in_flat_memory(tmp_path: Path) -> None:
    record = b'{"event_id":"%07d","attributes":{"text":"' + b"t" * 4000 + b'"}}'
    (tmp_path / "artifact").write_bytes(b"[" + b",\n".join(record % n for n in range(5000)) + b"]")
    tracemalloc.start()
    count = sum(isinstance(element, tuple) for element in json_reader.ArrayReader(InputFile(tmp_path / "artifact", "e.json")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5000
    assert peak < 4 * 1024**2
