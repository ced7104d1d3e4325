"""Companies: from one canonical input record to one row of `silver.companies`. Pure."""

from typing import Annotated, Any

import msgspec

from medallion_defs.silver.contract import InvalidRecord, ItemFacts, encode_attributes, normalized_id

# Long enough for any real id, short enough for a btree entry (2,704 bytes) whatever the characters.
Id = Annotated[str, msgspec.Meta(max_length=256)]
Year = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]

EARLIEST_FOUNDED_YEAR = 1000


class Input(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One company as canonical JSON or CSV. Only `company_id` is needed.

    Attributes:
        company_id: the key; stored in upper case, without blanks around it.
        name: as the company writes itself.
        sector: industry, in words.
        city: of the headquarters.
        country: of the headquarters, English name.
        founded_year: four digits.
        attributes: anything else worth keeping.
    """

    company_id: Id | None = None
    name: str | None = None
    sector: str | None = None
    city: str | None = None
    country: str | None = None
    founded_year: Year | None = None
    attributes: dict[str, Any] | None = None


class Row(msgspec.Struct):
    """One row of `silver.companies`: the source's own columns, in table order."""

    company_id: str
    name: str | None
    sector: str | None
    city: str | None
    country: str | None
    founded_year: int | None
    attributes: dict[str, Any]


def transform(record: Input, item: ItemFacts) -> tuple[object, ...]:
    """Return the values of `Row` (attributes as JSON text), then the quality flags joined by commas.

    Raises:
        InvalidRecord: no key.
    """
    company_id = normalized_id(record.company_id or "")
    if not company_id:
        raise InvalidRecord("missing_key", "company_id is missing or blank.")
    flags = "" if company_id == record.company_id else ",company_id_normalized"
    name = record.name.strip() if record.name else None
    if not name:
        flags += ",missing_name"
    founded_year = record.founded_year
    if founded_year is not None and not EARLIEST_FOUNDED_YEAR <= founded_year <= item.fetched_at.year:
        flags += ",founded_year_out_of_range"
    attributes = encode_attributes(record.attributes) if record.attributes else "{}"
    return company_id, name or None, record.sector, record.city, record.country, founded_year, attributes, flags[1:]
