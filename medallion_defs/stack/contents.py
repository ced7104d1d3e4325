"""Which content folders cannot be used, and why: what every location would leave out, in one list for `doctor` and `status`."""

from medallion_defs.core.content import Broken, load_content
from medallion_defs.core.settings import Settings
from medallion_defs.labeling.registry import load_usable_tasks
from medallion_defs.locations.silver import load_all_variants
from medallion_defs.stack.migrate import CONTENT


def find_broken(settings: Settings) -> list[Broken]:
    """Return the folders of sources, enrichments and tasks that are left out. Imports all of them."""
    broken: list[Broken] = []
    sources, enrichments = CONTENT
    load_content(sources, "fetch", "FETCH", broken)
    load_all_variants(broken)
    load_content(enrichments, "tables", "TABLE", broken)
    load_content(enrichments, "enrichment", "ENRICHMENT", broken)
    load_usable_tasks(settings.tasks, broken)
    return broken
