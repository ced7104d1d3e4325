"""Facts of the source `companies`."""

from medallion_defs.core.content import Source

SOURCE = Source(
    name="companies",
    title="Companies",
    description="Companies that drivers work for, and listed companies. One record names one company.",
    domain="fleet",
    artifact_type="companies",
    owners=("team:fleet",),
)
