"""Facts of the source `driver_events`."""

from medallion_defs.core.content import Source

SOURCE = Source(
    name="driver_events",
    title="Driver events",
    description="What vehicles and their drivers report: positions, dispatches, violations. One record is one event.",
    domain="fleet",
    artifact_type="events",
    owners=("team:fleet",),
)
