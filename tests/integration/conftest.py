"""Fixtures of the integration tests: a Dagster instance in memory, and a project that the command line finds."""

from collections.abc import Iterator

import dagster as dg
import pytest

from medallion_defs.core.settings import Settings
from tests.conftest import ROOT


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def project(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The process's own settings are those of the test, as if the shell had exported them."""
    monkeypatch.setenv("MEDALLION_ROOT", str(ROOT))
    monkeypatch.setenv("MEDALLION_DATA_DIR", str(settings.data_dir))
    monkeypatch.setenv("MEDALLION_DATABASE_URL", str(settings.database_url))
    monkeypatch.setenv("COLUMNS", "220")
    return settings
