"""Facts of the enrichment `driver_events_enriched`: driver events joined with the companies that they name."""

from medallion_defs.core.sql import load_queries
from medallion_defs.enrichments.driver_events_enriched.tables import TABLE
from medallion_defs.gold.contract import Enrichment, Input

ENRICHMENT = Enrichment(
    title="Driver events with their companies",
    description=(
        "Every driver event with what is known of its company. An event whose company is unknown so far is kept with "
        "`match_status = 'unmatched'` and completed when the company arrives; one that names none is `no_company`."
    ),
    domain="fleet",
    owners=("team:fleet",),
    table=TABLE,
    subject=Input(table="driver_events", key="event_id", prefix="event"),
    lookup=Input(table="companies", key="company_id", prefix="company"),
    rows=load_queries("medallion_defs.enrichments.driver_events_enriched", "enrich.sql")["rows"],
)
