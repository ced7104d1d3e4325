"""The section `curricular` of medallion.yaml: what is wrong is one sentence, and stops nothing else."""

from pathlib import Path
from typing import Any

import pytest

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import Settings, load_settings, read_settings
from medallion_defs.stack.doctor import judge_pages


def settings_of(root: Path, section: Any) -> Settings:
    return Settings(root=root, curricular=section)


def make_folders(root: Path) -> None:
    for name in ("label_to_curricular", "images"):
        (root / "dataset" / name).mkdir(parents=True)


def test_without_the_section_the_source_is_off(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path)
    assert settings.curricular_pages() is None
    assert settings.curricular_output() is None


def test_an_empty_section_means_the_folders_below_dataset(tmp_path: Path) -> None:
    make_folders(tmp_path)
    pages = settings_of(tmp_path, {}).curricular_pages()
    assert pages is not None
    assert [folder.relative_to(tmp_path).as_posix() for folder in (pages.labels_dir, pages.images_dir, pages.output_dir)] == [
        "dataset/label_to_curricular", "dataset/images", "dataset/output_results",
    ]  # fmt: skip
    assert (pages.states, pages.from_year, pages.to_year) == (None, None, None)


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ({"states": []}, "states"),
        ({"states": ["../etc"]}, "states.0"),
        ({"states": ["A:B"]}, "states.0"),
        ({"states": "Alabama"}, "states"),
        ({"from_year": 19870}, "from_year: Input should be less than or equal to 2200"),
        ({"to_year": "next"}, "to_year: Input should be a valid integer"),
        ({"from_year": 1990, "to_year": 1980}, "from_year 1990 is after to_year 1980"),
        ({"output_dir": "dataset/images/results"}, "none of them within another"),
        ({"labels_dir": "dataset/images"}, "none of them within another"),
        # Compared where they lead to, not as they are written.
        ({"output_dir": "dataset/images/../images"}, "none of them within another"),
        ({"output_dir": "elsewhere/../dataset/images/results"}, "none of them within another"),
        ({"output_dir": "link/results"}, "none of them within another"),
        ({"label_dir": "x"}, "label_dir: Extra inputs are not permitted"),
        ("dataset", "Input should be a valid dictionary"),
    ],
)
def test_a_section_that_does_not_validate_says_why_when_it_is_asked_for(tmp_path: Path, section: Any, sentence: str) -> None:
    make_folders(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "dataset" / "images")
    settings = settings_of(tmp_path, section)
    for ask in (settings.curricular_pages, settings.curricular_output):
        with pytest.raises(ConfigurationError) as caught:
            ask()
        assert sentence in str(caught.value)
        assert "curricular: " in str(caught.value)


def test_folders_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        settings_of(tmp_path, {}).curricular_pages()
    assert f"labels_dir: there is no folder {tmp_path / 'dataset/label_to_curricular'}" in str(caught.value)
    assert f"images_dir: there is no folder {tmp_path / 'dataset/images'}" in str(caught.value)


def test_a_command_refuses_at_once_and_a_code_location_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "medallion.yaml").write_text("curricular: {states: [Alabama], from_year: 1990, to_year: 1980}\n")
    monkeypatch.setenv("MEDALLION_ROOT", str(tmp_path))
    assert read_settings().source("companies").max_items == 500
    with pytest.raises(ConfigurationError, match="from_year 1990"):
        load_settings()
    (tmp_path / "medallion.yaml").write_text("curricular: {states: [Alabama]}\n")
    with pytest.raises(ConfigurationError, match="there is no folder"):
        load_settings()
    make_folders(tmp_path)
    pages = load_settings().curricular_pages()
    assert pages is not None
    assert pages.states == frozenset({"Alabama"})


def test_the_doctor_warns_of_a_state_without_a_folder(tmp_path: Path) -> None:
    make_folders(tmp_path)
    (tmp_path / "dataset/label_to_curricular/Alabama").mkdir()
    finding = judge_pages(settings_of(tmp_path, {"states": ["Alabama", "alabama", "New Mexico"]}))
    assert finding.verdict == "warning"
    assert "there is no folder New Mexico, alabama in" in finding.detail
    assert judge_pages(settings_of(tmp_path, {"states": ["Alabama"]})).verdict == "ok"
    assert judge_pages(Settings(root=tmp_path)).verdict == "ok"
