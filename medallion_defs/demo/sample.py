"""The demo's sample: realistic fleet files in every supported format, dirt included, and what must come of them.

The generator keeps its own books while it writes, so the expected counts do not come from the code that they check.
Two waves: the second corrects a file, repeats another byte for byte, and brings companies that events already named.
"""

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

FOLDER = "sample"
Event = dict[str, Any]

_KNOWN, _LATE, _GHOST = 30, 4, 2
_PARTNERS = 12
_CORRECTED, _ADDED, _REPEATED = 25, 10, 40
_TYPES = ("position", "trip_start", "trip_end", "harsh_braking", "overspeed", "idle")
_BAD_LINES: tuple[tuple[str, str], ...] = (
    ('{"event_id": "demo-cut-short", "driver_id": "D1', "malformed_json"),
    ('{"event_id": "", "driver_id": "D2"}', "missing_key"),
    ('{"event_id": "demo-north", "latitude": "north"}', "invalid_value"),
    ('{"event_id": "demo-nul", "driver_id": "D\\u00003"}', "nul_character"),
)
# One oddity in every so many events, and the flag that it must get.
_ODDITIES: tuple[tuple[str, Callable[[Event], None]], ...] = (
    ("bad_coordinate", lambda event: event.update(latitude=0.0, longitude=0.0)),
    ("speed_out_of_range", lambda event: event.update(speed_kmh=412.0)),
    ("future_event_at", lambda event: event.update(event_at="2199-01-01T00:00:00Z")),
    ("missing_event_at", lambda event: event.update(event_at=None)),
    ("missing_company_id", lambda event: event.update(company_id=None)),
    ("missing_driver_id", lambda event: event.update(driver_id=None)),
    ("unknown_event_type", lambda event: event.update(event_type="teleport")),
    ("company_id_normalized", lambda event: event.update(company_id=f" {event['company_id'].lower()}")),
)
_ODD_EVERY = 25


@dataclass(frozen=True)
class SampleFile:
    """One file to drop. `wave`: 1 or 2; `revision`: which revision of its item it becomes (0: none, bronze has the bytes)."""

    source: str
    name: str
    content: bytes
    wave: int
    revision: int = 1

    @property
    def external_id(self) -> str:
        return f"{FOLDER}/{self.name}"


@dataclass
class Expected:
    """What the sample must give, over both waves.

    Attributes:
        items: bronze items by source.
        dead: items that cannot be read.
        read, created, updated, repeated, rejected: records by source; `repeated` is unchanged and duplicate together, for
            which of the two a repetition is depends on whether its batch was the same.
        reject_codes: rejected records by code.
        flags: events in silver by quality flag, at the end.
        matches: gold rows by match status, at the end.
    """

    items: Counter[str] = field(default_factory=Counter)
    dead: int = 0
    read: Counter[str] = field(default_factory=Counter)
    created: Counter[str] = field(default_factory=Counter)
    updated: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    reject_codes: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    matches: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Sample:
    """The files, in the order in which they are dropped, and what must come of them."""

    files: tuple[SampleFile, ...]
    expected: Expected


def make_sample(events_per_file: int = 2_000, seed: int = 7) -> Sample:
    """Return the sample; the same arguments give the same bytes."""
    return _Writer(Random(seed), events_per_file).write()


@dataclass
class _Writer:
    """Writes the files and keeps the books: `written` is what silver must hold at the end, `flags` what it must say of it, by key."""

    random: Random
    events_per_file: int
    files: list[SampleFile] = field(default_factory=list)
    expected: Expected = field(default_factory=Expected)
    flags: dict[str, str] = field(default_factory=dict)
    written: dict[str, Event] = field(default_factory=dict)
    count: int = 0

    def write(self) -> Sample:
        self._write_companies()
        first = self._new_events(1)
        self._drop_lines("events_2026-11-01.jsonl", first, wave=1)
        second = self._new_events(2)
        self._drop_lines("events_2026-11-02.jsonl.gz", [*second, *first[:_REPEATED]], wave=1)
        self._drop("driver_events", "events_2026-11-03.csv", _as_csv(self._book(self._new_events(3)), ","), wave=1)
        self._drop("driver_events", "events_2026-11-04.json", json.dumps(self._book(self._new_events(4))).encode(), wave=1)
        self._drop("driver_events", "events_broken.jsonl.gz", gzip.compress(b'{"event_id": "never"}\n' * 500, mtime=0)[:-12], wave=1)
        self.expected.dead = 1
        self._write_second_wave(first)
        self._sum_up()
        return Sample(tuple(self.files), self.expected)

    def _write_second_wave(self, first: list[Event]) -> None:
        corrected = [{**event, "vehicle_id": "V-corrected"} for event in first[-_CORRECTED:]]
        added = self._new_events(5)[:_ADDED]
        self._drop_lines("events_2026-11-01.jsonl", [*first[:-_CORRECTED], *corrected, *added], wave=2, revision=2)
        again = next(file for file in self.files if file.name == "events_2026-11-02.jsonl.gz")
        self.files.append(SampleFile(again.source, again.name, again.content, wave=2, revision=0))
        late = [_company(number) for number in range(_KNOWN, _KNOWN + _LATE)]
        self._drop("companies", "companies_late.csv", _as_csv(late, ","), wave=2)
        self._count("companies", read=_LATE, created=_LATE)

    def _write_companies(self) -> None:
        known = [_company(number) for number in range(_KNOWN - _PARTNERS)]
        partners = [_company(number) for number in range(_KNOWN - _PARTNERS, _KNOWN)]
        # A spreadsheet's export: semicolons, latin-1, CRLF, a title above the header.
        export = b"Company register\r\n\r\n" + _as_csv(known, ";").decode().replace("\n", "\r\n").encode("latin-1")
        self._drop("companies", "companies.csv", export, wave=1)
        self._count("companies", read=len(known), created=len(known))
        self._drop("companies", "companies_partners.jsonl.gz", _gzip_lines([*partners, *known[:2]]), wave=1)
        self._count("companies", read=len(partners) + 2, created=len(partners), repeated=2)

    def _new_events(self, day: int) -> list[Event]:
        return [self._new_event(day) for _ in range(self.events_per_file)]

    def _new_event(self, day: int) -> Event:
        self.count += 1
        at = datetime(2026, 11, day, tzinfo=UTC) + timedelta(seconds=self.random.randrange(86_400))
        event: Event = {
            "event_id": f"demo-{self.count:06d}",
            "driver_id": f"D{self.random.randrange(200):03d}",
            "vehicle_id": f"V{self.random.randrange(150):03d}",
            "company_id": f"DEMO-{self.random.randrange(_KNOWN + _LATE + _GHOST):02d}",
            "event_type": self.random.choice(_TYPES),
            "event_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "latitude": round(self.random.uniform(47.0, 55.0), 5),
            "longitude": round(self.random.uniform(6.0, 15.0), 5),
            "speed_kmh": round(self.random.uniform(5.0, 130.0), 1),
            "attributes": {"engine_c": self.random.randrange(60, 110)},
        }
        if self.count % _ODD_EVERY == 0:
            flag, make_odd = _ODDITIES[(self.count // _ODD_EVERY) % len(_ODDITIES)]
            make_odd(event)
            self.flags[event["event_id"]] = flag
        return event

    def _drop_lines(self, name: str, events: list[Event], wave: int, revision: int = 1) -> None:
        """Drop JSON Lines, with bad lines in between and, in a first revision, some lines twice."""
        booked = self._book(events) + (self._book(events[:5]) if revision == 1 else [])
        lines = [json.dumps(event) for event in booked]
        for text, code in _BAD_LINES:
            lines.insert(self.random.randrange(len(lines)), text)
            self.expected.reject_codes[code] += 1
            self._count("driver_events", read=1, rejected=1)
        content = ("\n".join(lines) + "\n").encode()
        self._drop("driver_events", name, gzip.compress(content, mtime=0) if name.endswith(".gz") else content, wave, revision)

    def _book(self, events: list[Event]) -> list[Event]:
        """Count events that are about to be written, by what silver holds of them already."""
        for event in events:
            before = self.written.get(event["event_id"])
            self._count("driver_events", read=1, **{"created" if before is None else "repeated" if before == event else "updated": 1})
            self.written[event["event_id"]] = event
        return list(events)

    def _drop(self, source: str, name: str, content: bytes, wave: int, revision: int = 1) -> None:
        self.files.append(SampleFile(source, name, content, wave, revision))
        self.expected.items[source] += 1

    def _count(self, source: str, **counts: int) -> None:
        for name, number in counts.items():
            getattr(self.expected, name)[source] += number

    def _sum_up(self) -> None:
        for key, event in self.written.items():
            if key in self.flags:
                self.expected.flags[self.flags[key]] += 1
            self.expected.matches[_match(event)] += 1


def _match(event: Event) -> str:
    if event["company_id"] is None:
        return "no_company"
    return "matched" if int(event["company_id"].strip()[-2:]) < _KNOWN + _LATE else "unmatched"


def _company(number: int) -> dict[str, Any]:
    city, country = (("Köln", "Germany"), ("Besançon", "France"), ("Graz", "Austria"))[number % 3]
    return {
        "company_id": f"DEMO-{number:02d}",
        "name": f"Fleet Company {number}",
        "sector": ("Logistics", "Passenger transport", "Courier")[number % 3],
        "city": city,
        "country": country,
        "founded_year": 1950 + number,
    }


def _as_csv(rows: Iterable[dict[str, Any]], delimiter: str) -> bytes:
    rows = list(rows)
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: json.dumps(value) if isinstance(value, dict) else value for key, value in row.items()} for row in rows)
    return text.getvalue().encode()


def _gzip_lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0)
