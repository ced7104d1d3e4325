"""Facts of the source `media`."""

from medallion_defs.core.content import Source

SOURCE = Source(
    name="media",
    title="Media files",
    description="Video, audio and images, one file an item. What is in them is asked by tasks.",
    domain="content",
    artifact_type="media",
    owners=("team:content",),
)
