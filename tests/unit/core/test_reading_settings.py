"""A wrong setting is one sentence that names it, and the sentence of the source that it belongs to."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.settings import get_settings, load_settings


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MEDALLION_ROOT", str(tmp_path))
    monkeypatch.delenv("MEDALLION_SOURCES", raising=False)
    get_settings.cache_clear()
    yield tmp_path
    get_settings.cache_clear()


def write(root: Path, text: str) -> None:
    (root / "medallion.yaml").write_text(text + "\n", encoding="utf-8")


def test_parallelism_is_chosen_for_each_source_and_microbatch_where_nothing_is_said(root: Path) -> None:
    write(root, "sources: {articles: {parallelism: item, keep_partitions: 50}, companies: {max_items: 7}}")
    settings = load_settings()
    assert [settings.source(name).parallelism for name in ("articles", "companies", "driver_events")] == [
        "item",
        "microbatch",
        "microbatch",
    ]
    assert settings.source("articles").keep_partitions == 50


def test_a_command_refuses_a_configuration_with_a_wrong_source_and_names_every_setting(root: Path) -> None:
    write(root, "sources: {articles: {parallelism: celery}, companies: {max_items: 0, typo: 1}}")
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    for part in ("sources.articles: parallelism: Input should be 'microbatch' or 'item'", "sources.companies: max_items: ", "typo: Extra"):
        assert part in str(refused.value)


def test_in_a_code_location_only_the_wrong_source_fails(root: Path) -> None:
    write(root, "sources: {articles: {parallelism: celery}, companies: {max_items: 7}}")
    settings = get_settings()
    assert settings.source("companies").max_items == 7
    with pytest.raises(ConfigurationError, match=r"sources\.articles: parallelism: Input should be 'microbatch' or 'item'"):
        settings.source("articles")


@pytest.mark.parametrize("text", ["sources: [", "- a list", "3", "sources: 3", "unknown: 1"])
def test_a_file_that_cannot_be_understood_is_one_sentence(root: Path, text: str) -> None:
    write(root, text)
    for read in (load_settings, get_settings):
        with pytest.raises(ConfigurationError, match=r"medallion\.yaml"):
            read()
