"""JSON Lines and JSON arrays: what breaks a record breaks only that record."""

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest

from medallion_defs.silver import json_reader, reader
from medallion_defs.silver.reader import InputFile, UnexpectedFormatError, UnreadableFileError
from tests.local_files import opener
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
    b'{"event_id":"x","driver_id":"a","driver_id":"b"}': "repeated_key",
    b'{"event_id":"x","driver_id":"a","driver_id" :"a"}': "repeated_key",
    b'{"event_id":"x","driver_id":"a","driver\\u005fid":"b","company_id":null}': "repeated_key",
    b'{"event_id":"x","driver_id":null,"driver_id":"a:null"}': "repeated_key",
    b'{"event_id":"x","driver_id":"a","driver_id":null}': "repeated_key",
    b'{"event_id":"\\"","driver_id":"a","driver_id":"b"}': "repeated_key",
    b'{"event_id":"x","speed_kmh":1,"speed_kmh":2}': "repeated_key",
    b'{"event_id":"x","attributes":{"k":1},"attributes":{"z":3}}': "repeated_key",
    b'{"event_id":"x","firmware":1,"firmware":2}': "repeated_key",
    b'{"event_id":"x","attributes":{"n":1e-20000}}': "invalid_value",
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


def test_a_blank_file_of_lines_has_no_records_and_an_empty_file_is_refused(extract: Extract) -> None:
    assert extract("e.jsonl", b"\n") == ([], [])
    assert extract("e.json", b" [ ] \n") == ([], [])
    with pytest.raises(UnexpectedFormatError, match=r"e\.json: expected a JSON array"):
        extract("e.json", b"\n")
    for name in ("e.json", "e.jsonl"):
        with pytest.raises(UnreadableFileError, match="the file is empty"):
            extract(name, b"")


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
    count = sum(isinstance(element, tuple) for element in json_reader.ArrayReader(InputFile(opener(tmp_path / "artifact"), "e.json")))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 5000
    assert peak < 4 * 1024**2


FULL = {
    "event_id": "a", "driver_id": "d", "company_id": "C", "event_type": "position", "event_at": "2026-01-05T08:00:00Z",
    "latitude": 1.5, "longitude": 2.5, "speed_kmh": 10,
}  # fmt: skip


@pytest.mark.parametrize("repeated", sorted(FULL))
@pytest.mark.parametrize("form", ['"{key}":{value},', '"{key}" : {value},', '"\\u00{code:02x}{rest}":{value},'])
def test_a_repeated_key_is_seen_among_many_records_of_the_same_shape(extract: Extract, repeated: str, form: str) -> None:
    lines = [json.dumps({**FULL, "event_id": f"e{n}"}, separators=(",", ":")) for n in range(100)]
    other = json.dumps({**FULL, "event_id": "x", "vehicle_id": None}, separators=(",", ":"))
    added = form.format(key=repeated, value=json.dumps(FULL[repeated]), code=ord(repeated[0]), rest=repeated[1:])
    for line in (lines[50], other):
        broken = [*lines[:50], "{" + added + line[1:], *lines[51:]]
        got = extract("e.jsonl", "\n".join(broken).encode())
        assert got.codes == [(51, "repeated_key")]
        assert len(got.rows) == 99


def test_a_record_that_lacks_one_field_and_has_another_twice_is_not_taken_for_one_of_the_usual_shape(extract: Extract) -> None:
    usual = json.dumps(FULL, separators=(",", ":"))
    odd = usual.replace('"company_id":"C"', '"driver_id":"D"').replace('"a"', '"b"')
    got = extract("e.jsonl", "\n".join([usual, usual, odd, usual]).encode())
    assert got.codes == [(3, "repeated_key")]


def test_of_two_odd_records_whose_quotes_are_right_in_sum_each_is_judged(extract: Extract) -> None:
    lines = [json.dumps({**FULL, "event_id": f"e{n}"}, separators=(",", ":")) for n in range(300)]
    lines[150] = lines[150].replace('"company_id":"C",', "")
    lines[160] = lines[160].replace('"company_id":"C"', '"company_id":"C","company_id":"D"')
    got = extract("e.jsonl", "\n".join(lines).encode())
    assert got.codes == [(161, "repeated_key")]
    assert (got.rows[150][:2], got.rows[150][4]) == ((151, "e150"), None)
    assert len(got.rows) == 299


NESTED = (
    '{"event_id":"x","event_type":null,"attributes":{"a":1,"b":"t",'
    '"gps":{"hdop":0.5,"ids":["i","j"]},"trips":[{"n":"p","km":1.5},{"n":"q","km":2}]}}'
)
ODD = {
    "usual": ('"t"', '"t"'),
    "twice in attributes": ('"a":1', '"a":1,"a":2'),
    "twice further in": ('"hdop":0.5', '"hdop":0.5,"hdop":0.25'),
    "twice in a list": ('"km":2', '"km":2,"km":3'),
    "twice for another": ('"a":1,"b":"t"', '"a":1,"a":"t"'),
    "twice for another further in": ('"hdop":0.5,"ids"', '"ids":7,"ids"'),
    "twice for another in a list": ('"n":"q","km":2', '"km":"q","km":2'),
    "twice for a text less": ('"a":1,"b":"t"', '"a":1,"b":2,"b":3'),
    "twice for a shorter list": ('"hdop":0.5,"ids":["i","j"]', '"hdop":0.5,"hdop":0.25,"ids":["i"]'),
    "twice for a record less": (',{"n":"q","km":2}', ',{"n":1,"n":2,"n":3}'),
    "twice for a number instead of an object": ('"gps":{"hdop":0.5,"ids":["i","j"]}', '"gps":1,"a":"c","a":"d"'),
    "another key": ('"hdop"', '"pdop"'),
    "another order": ('"a":1,"b":"t"', '"b":"t","a":1'),
    "other types": ('"a":1,"b":"t"', '"a":"t","b":null'),
    "an object for a number": ('"a":1', '"a":{}'),
    "a list for an object": ('{"hdop":0.5,"ids":["i","j"]}', '["hdop","ids","i","j"]'),
    "many digits": ("0.5", "0.12345678901234567890123"),
    "an escaped quote": ('"t"', '"\\"t\\u00e9"'),
    "an unknown field": ('"event_type":null', '"firmware":null'),
    "empty attributes": ('"event_type":null', '"driver_id":{}'),
}


@pytest.mark.parametrize("name", ODD)
def test_a_record_is_read_alike_alone_and_among_many_with_objects_of_another_shape(extract: Extract, name: str) -> None:
    odd = NESTED.replace(*ODD[name])
    assert (odd != NESTED) == (name != "usual")
    alone = extract("e.jsonl", odd.encode())
    among = extract("e.jsonl", "\n".join([*[NESTED] * 200, odd, *[NESTED] * 60]).encode())
    [usual, *_] = extract("e.jsonl", NESTED.encode()).rows
    assert [row[1:] for row in among.rows if row[0] != 201] == [usual[1:]] * 260
    assert [row[1:] for row in among.rows if row[0] == 201] == [row[1:] for row in alone.rows]
    assert [(found.error_code, found.message) for found in among.rejects] == [(found.error_code, found.message) for found in alone.rejects]


def test_records_of_mixed_shapes_with_nulls_and_escapes_are_all_read(extract: Extract) -> None:
    records = [{**FULL, "event_id": f"e{n}"} for n in range(200)]
    for n, record in enumerate(records):
        if n % 2:
            del record["company_id"]
        if n % 3 == 0:
            record["vehicle_id"] = None
        if n % 5 == 0:
            record["driver_id"] = 'say "x": null \\ ü'
        if n % 7 == 0:
            record["attributes"] = {"a": None, "b": 'q"', "c": [{"d": "e"}, "f", []], "g": {}, "h": 0.1}
    got = extract("e.jsonl", "\n".join(map(json.dumps, records)).encode())
    assert not got.rejects
    assert [row[1] for row in got.rows] == [record["event_id"] for record in records]
    assert [json.loads(row[-2]) for row in got.rows] == [record.get("attributes", {}) for record in records]
    assert [row[4] for row in got.rows] == [record.get("company_id") for record in records]


def test_a_key_twice_within_attributes_is_kept_under_another_name_and_flagged(extract: Extract) -> None:
    raw = b'{"event_id":"a","attributes":{"k":1,"k":2,"k_2":0,"o":{"z":1,"z":1}},"firmware":[{"y":1,"y":2}]}'
    [row] = extract("e.jsonl", raw).rows
    assert json.loads(row[-2]) == {"k": 1, "k_3": 2, "k_2": 0, "o": {"z": 1, "z_2": 1}, "firmware": [{"y": 1, "y_2": 2}]}
    assert {"repeated_key", "unknown_fields"} <= set(row[-1].split(","))
    assert "repeated_key" not in extract("e.jsonl", b'{"event_id":"a","attributes":{"k":"\\"k\\":1"}}').rows[0][-1]


NUMBERS = "0.1234567890123456789012345", "12345678901234567.89", "1.23E-9998", "123456789012345678901234567890", "-0.10000000000000000001"


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_in_attributes_keep_their_digits(extract: Extract, number: str) -> None:
    for record in (b'{"event_id":"a","attributes":{"n":[%b]}}', b'{"event_id":"a","attributes":{},"n":[%b]}'):
        assert extract("e.jsonl", record % number.encode()).rows[0][-2] == f'{{"n":[{number}]}}'


def test_plain_numbers_in_attributes_are_as_before(extract: Extract) -> None:
    assert (
        extract("e.jsonl", b'{"event_id":"a","attributes":{"n":[1.5,1e5,0.1,-0.0,1.50,0.0]}}').rows[0][-2]
        == '{"n":[1.5,100000.0,0.1,-0.0,1.5,0.0]}'
    )


def test_a_field_with_more_digits_than_its_column_is_rounded_alike_on_all_ways(extract: Extract) -> None:
    for more in ("", ',"firmware":1', ',"attributes":{"a":0.5}'):
        raw = b'{"event_id":"a","latitude":40.12345678901234567890,"longitude":2%b}' % more.encode()
        assert extract("e.jsonl", raw).rows[0][7] == 40.123456789012345


def test_a_mark_before_a_line_is_no_part_of_it(extract: Extract) -> None:
    got = extract("e.jsonl", b'{"event_id":"a"}\n\xef\xbb\xbf{"event_id":"b"}\n')
    assert got.keys == [(1, "a"), (2, "b")]
