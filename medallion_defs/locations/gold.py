"""The code location `gold`: joins silver rows into gold, and runs the tasks.

Imports `enrichment` of each enrichment, `task` of each task, and of a source only what tasks ask about. Nothing here has a network:
what a model is asked goes through data/outbox, and its answers come back by way of bronze. The configuration file is read at import,
for it may name another model for a task.
"""

import dagster as dg

from medallion_defs.core.content import load_content
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import read_settings
from medallion_defs.gold.assets import build_gold
from medallion_defs.gold.lateness import look_at_feeds
from medallion_defs.labeling.assets.answers import build_answers
from medallion_defs.labeling.assets.labels import build_labels
from medallion_defs.labeling.assets.markers import build_marker_job
from medallion_defs.labeling.assets.sensors import build_task_sensor
from medallion_defs.labeling.assets.tasks import build_asset, build_job
from medallion_defs.labeling.assets.upkeep import build_upkeep
from medallion_defs.labeling.registry import Task, load_usable_tasks
from medallion_defs.ops.base import base_definitions
from medallion_defs.ops.watch import build_watch

_ENRICHMENTS = "medallion_defs.enrichments"

_CONTENTS = [module.ENRICHMENT for module in load_content(_ENRICHMENTS, "enrichment", "ENRICHMENT").values()]


def configured_tasks() -> dict[str, Task]:
    """Return the tasks with the profiles that the settings name; where the settings cannot be read, nothing works anyway."""
    try:
        settings = read_settings().tasks
    except ConfigurationError:
        settings = {}
    return load_usable_tasks(settings)


def build_tasks(tasks: dict[str, Task]) -> dg.Definitions:
    """Return all that runs tasks."""
    assets = {task_key: build_asset(task) for task_key, task in tasks.items()}
    jobs = [build_job(tasks[task_key], asset) for task_key, asset in assets.items()]
    running = dg.Definitions(assets=list(assets.values()), jobs=jobs, sensors=[build_task_sensor(tasks, jobs)])
    return dg.Definitions.merge(running, build_answers(tasks), build_labels(tasks), build_upkeep(tasks), build_marker_job(tasks))


defs = dg.Definitions.merge(
    base_definitions(),
    *(build_gold(enrichment) for enrichment in _CONTENTS),
    build_tasks(configured_tasks()),
    build_watch("gold", "medallion_gold", look_at_feeds(_CONTENTS)),
)
