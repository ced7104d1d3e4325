"""Language and length of texts."""

import json
from pathlib import Path
from typing import Any

import pytest

from medallion_defs.core.errors import TerminalError
from tests.unit.tasks.conftest import RunTask, output_of


def measure(run_task: RunTask, text: str, **changes: object) -> dict[str, Any]:
    return dict(output_of(run_task("text_statistics", inputs={"text": text}, **changes)))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "The old bridge over the harbour opens again on Monday."),
        ("de", "Die alte Brücke über den Hafen wird am Montag wieder geöffnet."),
        ("ru", "Старый мост через гавань снова откроется в понедельник."),
        ("ja", "港にかかる古い橋が月曜日に再び開通します。"),
        ("pt", "A velha ponte sobre o porto reabre na segunda-feira, depois de dois anos."),
    ],
)
def test_the_language_of_a_sentence(run_task: RunTask, language: str, text: str) -> None:
    output = measure(run_task, text)
    assert output["language"] == language
    assert 0.5 <= output["language_confidence"] <= 1


def test_words_sentences_and_paragraphs_are_counted(run_task: RunTask) -> None:
    output = measure(run_task, "It’s 9 o'clock. Is it?\n\n“Yes!” she said – and left…\nPrice: 3.50 each")
    # It’s, 9, o'clock | Is, it | Yes | she, said, and, left | Price, 3, 50, each
    assert (output["words"], output["sentences"], output["paragraphs"], output["characters"]) == (14, 5, 3, 68)


def test_each_character_of_chinese_and_japanese_is_a_word(run_task: RunTask) -> None:
    output = measure(run_task, "古い橋です。Python は 3 番目！")
    # 古 い 橋 で す | Python は 3 番 目
    assert (output["words"], output["sentences"]) == (10, 2)


@pytest.mark.parametrize("text", ["", "12 34 . 56", "…", "Ok"])
def test_too_little_text_has_no_language(run_task: RunTask, text: str) -> None:
    assert measure(run_task, text)["language"] is None


def test_the_language_is_told_by_the_start_of_the_text(run_task: RunTask) -> None:
    text = "The old bridge over the harbour opens again on Monday. " * 4 + "Старый мост через гавань снова откроется. " * 50
    assert measure(run_task, text, language_characters=200)["language"] == "en"
    assert measure(run_task, text)["language"] == "ru"


def test_real_articles_are_in_the_languages_they_are_in(run_task: RunTask, shared_data: Path) -> None:
    pages = json.loads((shared_data / "pages/ground-truth.json").read_text(encoding="utf-8"))
    languages = [measure(run_task, page["articleBody"])["language"] for page in pages.values()]
    assert {language: languages.count(language) for language in languages} == {"en": 56, "de": 1, "id": 1, "ja": 1, "pt": 1, "ru": 1}


def test_an_item_without_a_text_fails_for_good(run_task: RunTask) -> None:
    result = run_task("text_statistics", inputs={"title": "x"})
    assert isinstance(result.error, TerminalError)
