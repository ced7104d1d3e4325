"""Damaged bytes: never an error that Medallion does not know, and every record that was not hit is kept."""

import gzip
import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medallion_defs.core.errors import MedallionError
from tests.unit.silver.conftest import Extract, Extracted

RECORDS = [
    {
        "event_id": f"event-{n}",
        "driver_id": "D1",
        "company_id": "ACME",
        "event_at": "2026-01-05T08:00:00Z",
        "speed_kmh": n + 0.5,
        "attributes": {"n": [n]},
    }
    for n in range(12)
]
JSONL = b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in RECORDS)
ARRAY = b"[" + JSONL.rstrip(b"\n").replace(b"\n", b",\n") + b"]\n"
ONE_LINE_ARRAY = ARRAY.replace(b",\n", b", ")  # every byte stands where it does in ARRAY
CSV = b"event_id,driver_id,company_id,speed_kmh,attributes\n" + b"".join(
    b'event-%d,D1,ACME,%d.5,"{""n"": %d}"\n' % (n, n, n) for n in range(12)
)
TRUCK = (
    b",driverId,truckId,eventTime,eventType,longitude,latitude,eventKey,CorrelationId,driverName,routeId,routeName,eventDate\n"
    + b"".join(
        b"%d,14,25,59:21.4,Normal,-94.58,37.03,event-%d,3.66e+18,Adis Cesir,160405074,Joplin,2016-05-27-22\n" % (n, n) for n in range(12)
    )
)
KEYS = {f"event-{n}" for n in range(12)}
quick = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
flips = st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255))


def flipped(content: bytes, flip: tuple[float, int]) -> tuple[bytes, int]:
    at = int(flip[0] * len(content))
    return content[:at] + bytes([content[at] ^ flip[1]]) + content[at + 1 :], at


def hit_keys(content: bytes, at: int) -> set[str]:
    """The keys of the line that the byte at `at` is in; of the next one as well, if it is the line end."""
    first = content.count(b"\n", 0, at)
    lines = content.split(b"\n")[first : first + (2 if content[at : at + 1] == b"\n" else 1)]
    return {key for key in KEYS for line in lines if key.encode() + b'"' in line or key.encode() + b"," in line}


def extract_or_refuse(extract: Extract, name: str, content: bytes) -> Extracted:
    """Return what the file holds; nothing, where it is refused by its name."""
    try:
        return extract(name, content)
    except MedallionError as error:
        if name not in str(error):
            raise
        return Extracted([], [])


def kept_keys(got: Extracted) -> set[str]:
    return {row[1].removeprefix("truck:") for row in got.rows}


@quick
@given(flips)
def test_one_flipped_byte_in_json_lines_costs_at_most_its_line(extract: Extract, flip: tuple[float, int]) -> None:
    broken, at = flipped(JSONL, flip)
    assert kept_keys(extract("e.jsonl", broken)) >= KEYS - hit_keys(JSONL, at)


@quick
@given(flips, st.sampled_from([ARRAY, ONE_LINE_ARRAY]))
def test_one_flipped_byte_in_an_array_costs_at_most_its_element(extract: Extract, flip: tuple[float, int], content: bytes) -> None:
    broken, at = flipped(content, flip)
    try:
        got = extract("e.json", broken)
    except MedallionError:
        assert broken.lstrip()[:1] != b"[" or not broken.rstrip().endswith(b"]"), "only a broken outer bracket may cost the file"
    else:
        assert kept_keys(got) >= KEYS - hit_keys(ARRAY, at)


@quick
@given(flips)
def test_one_flipped_byte_in_csv_costs_at_most_its_line(extract: Extract, flip: tuple[float, int]) -> None:
    for name, content in (("e.csv", CSV), ("truck_events.csv", TRUCK)):
        broken, at = flipped(content, flip)
        try:
            got = extract(name, broken)
        except MedallionError:
            assert at <= content.index(b"\n"), "only a broken header may cost the file"
        else:
            hit = KEYS if at <= content.index(b"\n") else hit_keys(content, at)
            assert kept_keys(got) >= KEYS - hit


@quick
@given(st.sampled_from(["e.jsonl", "e.json", "e.csv", "truck_events.csv", "e.jsonl.gz"]), st.lists(flips, max_size=20), st.floats(0, 1))
def test_any_damage_ends_in_rows_rejects_or_a_known_error(
    extract: Extract, name: str, several: list[tuple[float, int]], cut: float
) -> None:
    content = {"e.jsonl": JSONL, "e.json": ARRAY, "e.csv": CSV, "truck_events.csv": TRUCK, "e.jsonl.gz": gzip.compress(JSONL)}[name]
    for flip in several:
        content, _ = flipped(content, flip)
    got = extract_or_refuse(extract, name, content[: int(cut * len(content))])
    places = [row[0] for row in got.rows] + [reject.source_record for reject in got.rejects]
    assert len(set(places)) == len(places), "a record is one row or one reject"


@quick
@given(st.sampled_from(["e.jsonl", "e.json", "e.csv", "fhv_dispatch_x.csv"]), st.binary(max_size=200))
def test_rubbish_ends_in_rows_rejects_or_a_known_error(extract: Extract, name: str, content: bytes) -> None:
    extract_or_refuse(extract, name, content)
