"""Facts of the source `curricular_pages`."""

from medallion_defs.core.content import Source

SOURCE = Source(
    name="curricular_pages",
    title="Curricular pages",
    description="Scanned pages of school yearbooks and catalogues that show curricular life, one page an item: the label that an earlier "
    "step gave it, and its image. They stay where they are (`curricular` in `medallion.yaml`); what is on them is asked by "
    "`page.curricular`.",
    domain="curricular",
    artifact_type="label",
    owners=("team:content",),
)
