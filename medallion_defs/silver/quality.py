"""The words in `quality_flags`, over all sources: what each says of a row. A row with a flag is kept.

Transforms write them; checks, documents and people read them. The words are stable, for queries rest on them.
"""

from types import MappingProxyType

QUALITY_FLAGS = MappingProxyType(
    {
        "assumed_utc": "The event's instant came without a time zone; it was taken as UTC.",
        "bad_coordinate": "Latitude or longitude is off the globe, one lacks the other, or both are 0 (a receiver without a fix).",
        "company_id_normalized": "The company id had blanks around it or lower-case letters; it is stored trimmed and in upper case.",
        "founded_year_out_of_range": "The founding year is before 1000, or after the year of the delivery.",
        "future_event_at": "The event lies more than 5 minutes after its file was fetched.",
        "implausible_event_at": "The event lies before 1970-01-02: a clock that was never set.",
        "missing_company_id": "No company is named, so the event cannot be joined with one.",
        "missing_driver_id": "No driver is named, in an event that has one (all but dispatch reports).",
        "missing_event_at": "The event has no instant.",
        "missing_event_type": "The event has no type.",
        "missing_name": "The company has no name.",
        "speed_out_of_range": "The speed is negative, or above 250 km/h.",
        "unknown_event_type": "The event type is none of those listed in the transform; it is stored as it came.",
        "unknown_fields": "The record had keys or columns that nobody mapped or ignored; they are in attributes.",
    }
)
