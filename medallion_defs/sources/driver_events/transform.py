"""Driver events: from one canonical input record to one row of `silver.driver_events`. Pure.

Out-of-range values are flagged and kept, for a person may know better; only a record without a key is refused.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

from medallion_defs.silver.contract import InvalidRecord, ItemFacts, encode_attributes, normalized_id

# Long enough for any real id, short enough for a btree entry (2,704 bytes) whatever the characters.
Id = Annotated[str, msgspec.Meta(max_length=256)]

EVENT_TYPES = frozenset(
    {
        "dispatch_report", "geofence_enter", "geofence_exit", "harsh_acceleration", "harsh_braking", "idle", "ignition_off", "ignition_on",
        "lane_departure", "normal", "overspeed", "position", "trip_end", "trip_start", "unsafe_following_distance", "unsafe_tail_distance",
    }
)  # fmt: skip
REPORT_TYPES = frozenset({"dispatch_report"})  # what a company reports of all its drivers: no driver is missing
CLOCK_TOLERANCE = timedelta(minutes=5)
EARLIEST_EVENT_AT = datetime(1970, 1, 2, tzinfo=UTC)
MAX_SPEED_KMH = 250.0


class Input(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One event as canonical JSON or CSV. Only `event_id` is needed.

    Attributes:
        event_id: the key, unique over all deliveries; blanks around it are cut.
        driver_id, vehicle_id: ids as the telematics system has them.
        company_id: the company that the driver works for; compared in upper case, without blanks around it.
        event_type: a word in snake_case, such as `position` or `overspeed`.
        event_at: when it happened, RFC 3339 with offset. Without an offset UTC is assumed, and flagged.
        latitude, longitude: degrees, WGS 84.
        speed_kmh: kilometres per hour.
        attributes: anything else worth keeping.
    """

    event_id: Id | None = None
    driver_id: Id | None = None
    vehicle_id: Id | None = None
    company_id: Id | None = None
    event_type: Id | None = None
    event_at: datetime | None = None
    latitude: float | None = None
    longitude: float | None = None
    speed_kmh: float | None = None
    attributes: dict[str, Any] | None = None


class Row(msgspec.Struct):
    """One row of `silver.driver_events`: the source's own columns, in table order."""

    event_id: str
    driver_id: str | None
    vehicle_id: str | None
    company_id: str | None
    event_type: str | None
    event_at: datetime | None
    latitude: float | None
    longitude: float | None
    speed_kmh: float | None
    attributes: dict[str, Any]


def transform(record: Input, item: ItemFacts) -> tuple[object, ...]:
    """Return the values of `Row` (attributes as JSON text), then the quality flags joined by commas.

    Inline, no helper per field: this runs for every record there is.

    Raises:
        InvalidRecord: no key, or an instant outside of the years 1 to 9999 in UTC.
    """
    event_id = record.event_id.strip() if record.event_id else ""
    if not event_id:
        raise InvalidRecord("missing_key", "event_id is missing or blank.")
    flags = ""
    event_type, driver_id = record.event_type, record.driver_id
    if event_type not in EVENT_TYPES:
        flags += ",unknown_event_type" if event_type else ",missing_event_type"
    if not driver_id and event_type not in REPORT_TYPES:
        flags += ",missing_driver_id"
    given_company_id = record.company_id
    company_id = normalized_id(given_company_id) if given_company_id else None
    if not company_id:
        flags += ",missing_company_id"
    elif company_id != given_company_id:
        flags += ",company_id_normalized"
    event_at = record.event_at
    if event_at is None or event_at.tzinfo is None or not EARLIEST_EVENT_AT <= event_at <= item.fetched_at:
        event_at, odd = _judge_instant(event_at, item.fetched_at)
        flags += odd
    latitude, longitude, speed_kmh = record.latitude, record.longitude, record.speed_kmh
    is_usual = latitude and longitude and -90.0 <= latitude <= 90.0 and -180.0 <= longitude <= 180.0
    if not is_usual and _is_bad_coordinate(latitude, longitude):
        flags += ",bad_coordinate"
    if speed_kmh is not None and not 0.0 <= speed_kmh <= MAX_SPEED_KMH:
        flags += ",speed_out_of_range"
    attributes = encode_attributes(record.attributes) if record.attributes else "{}"
    return (
        event_id, driver_id or None, record.vehicle_id or None, company_id or None, event_type or None,
        event_at, latitude, longitude, speed_kmh, attributes, flags[1:],
    )  # fmt: skip


def _judge_instant(event_at: datetime | None, fetched_at: datetime) -> tuple[datetime | None, str]:
    """Return the instant, aware, and the flags it deserves."""
    if event_at is None:
        return None, ",missing_event_at"
    flags = "" if event_at.tzinfo else ",assumed_utc"
    event_at = event_at if event_at.tzinfo else event_at.replace(tzinfo=UTC)
    try:
        event_at = event_at.astimezone(UTC)  # Postgres would take it, and Python fail to read it back
    except OverflowError as error:
        raise InvalidRecord("invalid_value", f"event_at: {event_at.isoformat()} is outside of the years 1 to 9999 in UTC.") from error
    if event_at < EARLIEST_EVENT_AT:
        return event_at, flags + ",implausible_event_at"
    return event_at, flags + (",future_event_at" if event_at - fetched_at > CLOCK_TOLERANCE else "")


def _is_bad_coordinate(latitude: float | None, longitude: float | None) -> bool:
    """True for half a coordinate, one that is not on the globe, and (0, 0), which is where receivers without a fix are."""
    if latitude is None or longitude is None:
        return latitude is not longitude
    return not (-90.0 <= latitude <= 90.0 and -180.0 <= longitude <= 180.0) or (latitude == 0.0 and longitude == 0.0)
