"""`text.statistics`: how long a text is, and in which language, without a model.

The language is py3langid's guess: 97 languages in 4.6 MB, offline, BSD licence, the same answer each time (lingua would be
96 MB). Words and sentences are counted by rule, alike for all languages; see `Output`.
"""

import re
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from medallion_defs.core.errors import TerminalError
from medallion_defs.labeling.contract import BatchStrategy, TaskContext, TaskSpec, WorkItem
from medallion_defs.labeling.per_item import item_processor
from medallion_defs.sources.articles.subjects import ARTICLES

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)

# Han, Hiragana and Katakana are written without blanks: each character counts as a word, as word processors do.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+(?:['’][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s|$)|[。！？]+|\n+")
_NO_LANGUAGE = "zxx"
_LETTER = re.compile(r"[^\W\d_]")


class Parameters(BaseModel):
    """The profile's parameters.

    Attributes:
        language_characters: how much of a text is looked at for its language.
        min_confidence: below it the language is left open; a word or two are often taken for Breton.
    """

    model_config = _STRICT

    language_characters: int = Field(ge=100)
    min_confidence: float = Field(ge=0, le=1)


class Output(BaseModel):
    """One text.

    Attributes:
        language: ISO 639-1; None when the text has no letter, no language (`zxx`), or too little of one to tell.
        language_confidence: of the best guess, 0 to 1, to three decimals.
        characters: Unicode code points, line ends included.
        words: runs of letters and digits; each character of Chinese and Japanese.
        sentences: pieces that have a letter or digit and end in a full stop, a question or an exclamation mark, or with their line;
            abbreviations make them too many.
        paragraphs: lines that are not blank.
    """

    model_config = _STRICT

    language: str | None = Field(pattern="^[a-z]{2,3}$")
    language_confidence: float | None = Field(ge=0, le=1)
    characters: int = Field(ge=0)
    words: int = Field(ge=0)
    sentences: int = Field(ge=0)
    paragraphs: int = Field(ge=0)


def get_spec() -> TaskSpec:
    return TaskSpec(
        task_key="text.statistics",
        media_type="text",
        title="Language and length of a text",
        description="Language with its confidence, characters, words, sentences, paragraphs.",
        domain="content",
        subjects=ARTICLES,
        output_model=Output,
        processor=item_processor(Parameters, _measure),
        batch_strategy=BatchStrategy(max_items=1_000, max_bytes=64 * 1024**2),
        owners=("team:content",),
    )


def _measure(item: WorkItem, parameters: Parameters, context: TaskContext) -> Output:
    text = item.inputs.get("text")
    if not isinstance(text, str):
        raise TerminalError(f"{item.subject_key}: the task was given no text. Its subjects query must return a column 'text'.")
    language, confidence = _detect_language(text[: parameters.language_characters], parameters.min_confidence)
    return Output(
        language=language,
        language_confidence=confidence,
        characters=len(text),
        words=len(_WORD.findall(text)),
        sentences=sum(1 for piece in _SENTENCE_END.split(text) if _WORD.search(piece)),
        paragraphs=sum(1 for line in text.splitlines() if line.strip()),
    )


def _detect_language(text: str, min_confidence: float) -> tuple[str | None, float | None]:
    if not _LETTER.search(text):
        return None, None
    language, probability = _identifier().classify(text)
    confidence = round(min(float(probability), 1.0), 3)
    return (str(language) if language != _NO_LANGUAGE and confidence >= min_confidence else None), confidence


@cache
def _identifier() -> Any:
    # Loading the model takes longer than any text, hence once a process and only where texts are measured.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
