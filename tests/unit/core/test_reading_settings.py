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


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("genai: {deadline_hours: .inf}", "genai.deadline_hours: Input should be a finite number"),
        ("genai: {deadline_hours: .nan}", "genai.deadline_hours: Input should be a finite number"),
        ("genai: {deadline_hours: 100000}", "genai.deadline_hours: Input should be less than"),
        ("genai: {max_usd_per_day: -1}", "genai.max_usd_per_day: Input should be greater than"),
        ("genai: {max_usd_per_day: Infinity}", "genai.max_usd_per_day: Input should be a finite"),
        ("genai: {max_usd_per_task: {text.summarize: -1}}", "genai.max_usd_per_task.text.summarize: "),
        ("genai: {max_usd_per_task: {text.sumarize: 1}}", "text.sumarize: no such task"),
        ("genai: {base_url: localhost}", "genai.base_url: the API's address starts with http://"),
        ("genai: {base_url: 'http://'}", "genai.base_url: the API's address starts with http://"),
        ("genai: {base_url: 'http://a:port'}", "genai.base_url: the API's address starts with"),
        ("genai: {max_batch_bytes: 0}", "genai.max_batch_bytes: Input should be greater than"),
        ("genai: {typo: 1}", "genai.typo: Extra inputs are not permitted"),
        ("tasks: {text.sumarize: {max_attempts: 2}}", "text.sumarize: no such task"),
        ("tasks: {text_summarize: {max_attempts: 2}}", "text_summarize: no such task"),
        ("tasks: {text.summarize: {generation: {temperature: 9}}}", "generation: temperature: Input"),
        ("tasks: {text.summarize: {generation: {maxOutputTokens: -5}}}", "maxOutputTokens: Input"),
        ("tasks: {text.summarize: {lease_seconds: .inf}}", "lease_seconds: Input should be a finite"),
        ("tasks: {text.summarize: {promote: always}}", "promote: Input should be 'ask' or 'automatic'"),
        ("sources: {drivers: {max_items: 7}}", "sources.drivers: no such source. "),
        ("sources: {companies: {max_lag: 99999999999d}}", "max_lag: '99999999999d' is longer than"),
        ("sources: {companies: {retry_seconds: .inf}}", "retry_seconds: Input should be a finite"),
        ("gold: {max_rows: 1}\ngold: {max_rows: 2}", "the key 'gold' stands twice"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_in_one_sentence_that_names_it(root: Path, text: str, sentence: str) -> None:
    write(root, text)
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert sentence in str(refused.value)


def test_two_prices_for_the_same_tokens_and_day_are_refused(root: Path) -> None:
    price = "{model: m, mode: batch, valid_from: 2026-01-01, input_usd: 1, cached_input_usd: 1, output_usd: %s}"
    write(root, f"genai: {{prices: [{price % 2}, {price % 3}]}}")
    with pytest.raises(ConfigurationError, match="2 prices for m, batch, from 2026-01-01; keep one"):
        load_settings()


def test_a_blank_key_is_no_key(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "")
    monkeypatch.setenv("MEDALLION_GENAI__API_KEY", "  ")
    assert not load_settings().genai.is_reachable


def test_the_address_of_the_api_is_not_shown_when_it_is_wrong(root: Path) -> None:
    write(root, "genai: {base_url: 'ftp://user:hidden@host'}")
    with pytest.raises(ConfigurationError) as refused:
        load_settings()
    assert "hidden" not in str(refused.value)
