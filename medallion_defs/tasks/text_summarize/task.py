"""`text.summarize`: an article in a few sentences, by a model."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from medallion_defs.core.errors import TerminalError
from medallion_defs.labeling.contract import ModelRequest, ModelTask, TaskSpec, WorkItem
from medallion_defs.sources.articles.subjects import ARTICLES

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)


class Output(BaseModel):
    """What a model says of one article."""

    model_config = _STRICT

    summary: str = Field(min_length=1, description="Two to four sentences in the language of the article.")
    key_points: list[str] = Field(max_length=5, description="At most five facts, each in one short sentence, most important first.")
    topic: Literal["politics", "business", "technology", "science", "health", "sports", "culture", "crime", "weather", "other"] = Field(
        description="The one subject that the article is most about."
    )
    is_article: bool = Field(description="False when the text is no article: a list of links, an error page, an advertisement.")


def get_spec() -> TaskSpec:
    return TaskSpec(
        task_key="text.summarize",
        media_type="text",
        title="Summary of an article",
        description="Two to four sentences, key points, a topic from a fixed list.",
        domain="content",
        subjects=ARTICLES,
        output_model=Output,
        model=ModelTask(_build_request),
        owners=("team:content",),
    )


def _build_request(item: WorkItem, prompt: str) -> ModelRequest:
    if not str(item.inputs.get("text") or "").strip():
        raise TerminalError(f"{item.subject_key} has no text to summarize.")
    return ModelRequest(prompt)
