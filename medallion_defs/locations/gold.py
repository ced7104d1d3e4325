"""The code location `gold`: joins silver rows into gold. Imports `enrichment` of each enrichment and nothing of any source."""

import dagster as dg

from medallion_defs.core.content import load_content
from medallion_defs.gold.assets import build_gold
from medallion_defs.ops.base import base_definitions

_ENRICHMENTS = "medallion_defs.enrichments"

defs = dg.Definitions.merge(
    base_definitions(), *(build_gold(module.ENRICHMENT) for module in load_content(_ENRICHMENTS, "enrichment").values())
)
