"""What every code location has in common: the settings as a resource, and one process per run.

Steps are small and share a run's connection to the database; a process per step would cost seconds and gain nothing.
"""

import dagster as dg

from medallion_defs.core.logging import configure_logging
from medallion_defs.core.settings import Settings, get_settings
from medallion_defs.ops.dagster_asset import plain_failures


@dg.resource(description="The settings of this process: environment, medallion.yaml, defaults.")
def settings_resource(_context: dg.InitResourceContext) -> Settings:
    with plain_failures():
        return get_settings()


def base_definitions() -> dg.Definitions:
    """Return the resource and the executor, and set up logging; the settings are read when a run or a tick first asks for them."""
    configure_logging()
    return dg.Definitions(resources={"settings": settings_resource}, executor=dg.in_process_executor)
