"""Run assets as Dagster runs them, with the settings of a test instead of the process's."""

import os
import time
from pathlib import Path

import dagster as dg

from medallion_defs.core.settings import Settings


def materialize(
    defs: dg.Definitions, key: list[str], settings: Settings, instance: dg.DagsterInstance, **config: object
) -> dg.ExecuteInProcessResult:
    """Materialize one asset in this process; `config` is the asset's."""
    # Not resolved through the definitions: those bind the settings of this process, and the test brings its own.
    [asset] = [asset for asset in defs.assets or () if isinstance(asset, dg.AssetsDefinition) and asset.keys == {dg.AssetKey(key)}]
    run_config = {"ops": {"__".join(key): {"config": config}}} if config else None
    return dg.materialize([asset], instance=instance, resources={"settings": settings}, run_config=run_config, raise_on_error=False)


def drop(settings: Settings, source: str, name: str, content: bytes) -> Path:
    """Put a file into landing that has been at rest for an hour."""
    path = settings.landing_path / source / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    then = time.time() - 3600
    os.utime(path, (then, then))
    return path
