"""A bronze store and a landing folder of their own for each test; what the store made read-only is removable again after."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from medallion_defs.bronze.fetching.report import LeftFile
from medallion_defs.core.content import Source
from medallion_defs.storage.item import BronzeItem, is_ahead
from medallion_defs.storage.local import verify
from medallion_defs.storage.local.publisher import LocalStore
from medallion_defs.storage.publishing import NewArtifact, NewItem, Publication
from tests.folders import make_removable

NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
SOURCE = Source(name="events", title="", description="", domain="fleet", artifact_type="events", owners=())

Publish = Callable[..., list[Publication]]


@pytest.fixture
def bronze(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "bronze"
    yield root
    make_removable(root)


@pytest.fixture
def store(bronze: Path) -> LocalStore:
    return LocalStore(bronze)


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    (tmp_path / "landing" / SOURCE.name).mkdir(parents=True)
    return tmp_path / "landing"


@pytest.fixture
def publish(store: LocalStore) -> Publish:
    def publish(*contents: tuple[str, bytes]) -> list[Publication]:
        with store.group(SOURCE.name) as group:
            for external_id, content in contents:
                group.stage(new_item(external_id, content))
            return group.publish()

    return publish


def tell_nobody(_items: Sequence[BronzeItem], _refused: Sequence[LeftFile]) -> None:
    """For a fetch without a ledger."""


def new_item(external_id: str, content: bytes, fetched_at: datetime = NOW) -> NewItem:
    return NewItem(external_id, external_id, f"test/{external_id}", fetched_at, [NewArtifact("events.csv", content)])


@pytest.fixture(autouse=True)
def clock_of_the_store() -> Iterator[None]:
    """Items of these tests are dated `NOW`, which no clock has reached: verifying takes it for the present."""
    with pytest.MonkeyPatch.context() as patch:  # of its own: a test may undo all that it patched
        patch.setattr(verify, "is_ahead", lambda fetched_at, now: is_ahead(fetched_at, max(now, NOW)))
        yield
