"""Facts of the source `articles`."""

from medallion_defs.core.content import Source

SOURCE = Source(
    name="articles",
    title="Articles",
    description="Web pages, one page an item; the row has the text of the article in it. The page as it came stays in bronze.",
    domain="content",
    artifact_type="page",
    owners=("team:content",),
)
