"""Where the bytes of a subject are, and which hash they were published with: read from the columns of its inputs."""

from pathlib import Path

import pytest

from medallion_defs.core.settings import Settings
from medallion_defs.labeling.engine.batch import input_path, input_sha256
from medallion_defs.storage.hashed import DamagedBronzeItemError
from tests.integration.bronze_items import make_item, publish

FRAME = f"{'ab' * 32}.jpg"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(root=tmp_path, data_dir=tmp_path / "data")


def test_a_file_of_bronze_has_the_hash_that_its_item_was_published_with(settings: Settings) -> None:
    item = make_item("a")
    publish(settings.bronze_path, item)
    [artifact] = item.artifacts
    inputs = {"bronze_path": item.path, "artifact": artifact.name}
    assert input_path(settings, inputs) == settings.bronze_path / item.path / artifact.name
    assert input_sha256(settings, inputs) == artifact.sha256
    with pytest.raises(DamagedBronzeItemError, match=r"names no file other\.csv"):
        input_sha256(settings, inputs | {"artifact": "other.csv"})


@pytest.mark.parametrize(("name", "sha256"), [(FRAME, "ab" * 32), ("frame.jpg", None)])
def test_a_derived_file_has_the_hash_that_it_is_named_by(settings: Settings, name: str, sha256: str | None) -> None:
    inputs = {"derived_path": f"video.extract_frames/1/{name}", "bronze_path": "media/a", "artifact": "a.mp4"}
    assert input_path(settings, inputs) == settings.derived_path / "video.extract_frames" / "1" / name
    assert input_sha256(settings, inputs) == sha256


@pytest.mark.parametrize("inputs", [{}, {"bronze_path": "notes/a"}, {"artifact": "a.txt"}])
def test_what_is_in_the_inputs_themselves_has_no_file(settings: Settings, inputs: dict[str, str]) -> None:
    assert (input_path(settings, inputs), input_sha256(settings, inputs)) == (None, None)
