"""Say in the database what each column of silver and gold is."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

EVERY_SILVER_ROW = {
    "file_id": "bronze item that the row is made of",
    "source_record": "record in the item: the line it starts on, or its position in a JSON array",
    "quality_flags": "what is odd about the row; see docs/reference/quality-flags.md",
    "bronze_at": "when the item was fetched; the latest wins a key",
    "change_seq": "position in the change feed",
    "ingested_at": "when the row was first written",
    "updated_at": "when the row was last written",
}
COMMENTS = {
    "silver.driver_events": {
        "event_id": "key of the event, unique over all deliveries",
        "driver_id": "driver, as named by the telematics system",
        "vehicle_id": "vehicle, as named by the telematics system",
        "company_id": "company that the driver works for: trimmed, upper case",
        "event_type": "what happened, a word such as position or overspeed",
        "event_at": "when it happened",
        "latitude": "degrees north, WGS 84",
        "longitude": "degrees east, WGS 84",
        "speed_kmh": "kilometres per hour",
        "attributes": "what else the record said, as it came",
        **EVERY_SILVER_ROW,
    },
    "silver.companies": {
        "company_id": "key of the company: trimmed, upper case",
        "name": "as the company writes itself",
        "sector": "industry, in words",
        "city": "of the headquarters",
        "country": "of the headquarters, English name",
        "founded_year": "four digits",
        "attributes": "what else the record said, as it came",
        **EVERY_SILVER_ROW,
    },
    "silver.rejected_rows": {
        "file_id": "bronze item",
        "source_record": "record in the item: the line it starts on, or its position in a JSON array",
        "error_code": "stable word to group by",
        "message": "what is wrong with which field",
        "created_at": "when the item was loaded",
    },
    "gold.driver_events_enriched": {
        "event_id": "key of the event, unique over all deliveries",
        "driver_id": "driver, as named by the telematics system",
        "vehicle_id": "vehicle, as named by the telematics system",
        "company_id": "company that the driver works for: trimmed, upper case",
        "event_type": "what happened, a word such as position or overspeed",
        "event_at": "when it happened",
        "latitude": "degrees north, WGS 84",
        "longitude": "degrees east, WGS 84",
        "speed_kmh": "kilometres per hour",
        "quality_flags": "of the event",
        "company_name": "name of the company",
        "company_sector": "industry of the company",
        "company_city": "city of the company's headquarters",
        "company_country": "country of the company's headquarters",
        "event_file_id": "bronze item of the event's silver row",
        "event_source_record": "record in that item",
        "event_change_seq": "version of the event's silver row",
        "company_file_id": "bronze item of the company's silver row; NULL: no company",
        "company_source_record": "record in that item",
        "company_change_seq": "version of the company's silver row",
        "enriched_at": "when the row was first written",
        "updated_at": "when the row was last written",
    },
}


def upgrade() -> None:
    for table, columns in COMMENTS.items():
        schema, name = table.split(".")
        for column, comment in columns.items():
            op.alter_column(name, column, comment=comment, schema=schema)
