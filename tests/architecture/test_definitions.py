"""What the Dagster page shows of every definition: words for people, owners, and no field that is not for them."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from medallion_defs.locations import bronze, gold, silver

LOCATIONS = {"bronze": bronze.defs, "silver": silver.defs, "gold": gold.defs}
# What sensors hand out is in tags of their runs.
INTERNAL = {"batch_id", "work", "source_type"}


@pytest.fixture(params=LOCATIONS)
def repository(request: pytest.FixtureRequest) -> dg.RepositoryDefinition:
    return LOCATIONS[request.param].get_repository_def()


def test_every_job_schedule_sensor_and_check_is_described(repository: dg.RepositoryDefinition) -> None:
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    assert [one.name for one in (*jobs, *repository.schedule_defs, *repository.sensor_defs) if not one.description] == []
    checks = [spec for checks in repository.asset_checks_defs_by_key.values() for spec in checks.check_specs]
    assert [spec.name for spec in checks if not spec.description] == []


def test_every_asset_is_described_and_has_an_owner(repository: dg.RepositoryDefinition) -> None:
    specs = [spec for asset in repository.assets_defs_by_key.values() for spec in asset.specs]
    assert specs
    assert [spec.key.to_user_string() for spec in specs if not (spec.description and spec.owners)] == []


def test_every_field_of_the_launchpad_is_described_and_none_is_internal(repository: dg.RepositoryDefinition) -> None:
    fields = [(f"{job.name}: {name}", field) for job in repository.get_all_jobs() for name, field in _config_fields(job)]
    assert fields or repository.name
    assert [where for where, field in fields if not field.description] == []
    assert [where for where, _ in fields if where.partition(": ")[2] in INTERNAL] == []


def test_bronze_names_its_folder_and_recipes() -> None:
    repository = bronze.defs.get_repository_def()
    metadata = repository.assets_defs_by_key[dg.AssetKey(["bronze", "driver_events"])].metadata_by_key[
        dg.AssetKey(["bronze", "driver_events"])
    ]
    assert metadata["landing_folder"] == "data/landing/driver_events"
    assert "truck_events.yaml" in str(metadata["recipes"])


def _config_fields(job: dg.JobDefinition) -> Iterator[tuple[str, Any]]:
    """Yield the fields of the config of each op and asset of a job."""
    ops = job.run_config_schema.config_type.fields.get("ops")  # type: ignore[attr-defined]  # a shape, always
    for node in (ops.config_type.fields if ops else {}).values():
        config = node.config_type.fields.get("config")
        yield from (config.config_type.fields if config and hasattr(config.config_type, "fields") else {}).items()
