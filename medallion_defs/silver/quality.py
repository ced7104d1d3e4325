"""The words in `quality_flags`, over all sources: what each says of a row. A row with a flag is kept.

Transforms write them; checks, documents and people read them. The words are stable, for queries rest on them.
"""

from types import MappingProxyType

QUALITY_FLAGS = MappingProxyType(
    {
        "assumed_utc": "The event's instant came without a time zone; it was taken as UTC.",
        "bad_coordinate": "Latitude or longitude is off the globe, one lacks the other, or both are 0 (a receiver without a fix).",
        "company_id_normalized": "The company id had blanks around it or lower-case letters; it is stored trimmed and in upper case.",
        "empty_label": "The page's label says nothing.",
        "event_at_from_key": "The event's hour was taken from its key, which contradicts the column for it (variant b).",
        "fetched_at_adjusted": "The item is dated otherwise than by the clock of its fetch; its note says why.",
        "founded_year_out_of_range": "The founding year is before 1000, or after the year of the delivery.",
        "future_event_at": "The event lies more than 5 minutes after its file was fetched.",
        "guessed_encoding": "The text is not UTF-8, and nothing names its encoding; characters beyond ASCII rest on a guess.",
        "implausible_event_at": "The event lies before 1970-01-02: a clock that was never set.",
        "invalid_characters": "Bytes of the page that are not of its encoding became U+FFFD.",
        "mislabeled_encoding": "The page declares an encoding that its bytes are not of; another was guessed.",
        "mislabeled_image": "The page's image is of another kind than its name says.",
        "missing_body": "No text was found in the page.",
        "missing_company_id": "No company is named, so the event cannot be joined with one.",
        "missing_driver_id": "No driver is named, in an event that has one (all but dispatch reports).",
        "missing_event_at": "The event has no instant.",
        "missing_event_type": "The event has no type.",
        "missing_name": "The company has no name.",
        "missing_title": "The page has no title.",
        "nonstandard_encoding": "The page declares an encoding that browsers refuse (HZ, ISO-2022-KR); it was read as declared.",
        "repeated_key": "A key stood twice in an object within attributes; the first kept its name, the others got _2, _3 behind it.",
        "short_body": "Less than 150 characters of text were found in the page: a menu or a notice rather than an article.",
        "speed_out_of_range": "The speed is negative, or above 250 km/h.",
        "swallowed_line": "A quoted cell holds a line with as many cells as the header: two records may have become one.",
        "text_lost": "The page nests its elements so deep that text below is not in body_text.",
        "unknown_event_type": "The event type is none of those listed in the transform; it is stored as it came.",
        "unreadable_container": "The file's first bytes are those of a medium, but its streams cannot be listed: cut off or damaged.",
        "unknown_fields": "The record had keys or columns that are neither mapped nor ignored; they are in attributes.",
    }
)
