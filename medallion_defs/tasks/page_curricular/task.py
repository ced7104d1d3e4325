"""`page.curricular`: which subject, grade, courses and activities a page shows, and how many people, by a model.

The accepted answer is also written to the folder of success markers, `{state}/{school}/{year}/{page_num}.json`: a page whose marker
is there is not asked about.
"""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from medallion_defs.core.errors import TerminalError
from medallion_defs.core.settings import Settings
from medallion_defs.labeling.contract import BatchStrategy, Marker, ModelRequest, ModelTask, RequestMedium, TaskSpec, WorkItem
from medallion_defs.sources.curricular_pages.subjects import PAGES

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
_TAKEN_BY_MODELS = frozenset({"image/jpeg", "image/png", "image/webp"})

Subject = Literal[
    "arts", "business", "english", "family_and_consumer_science", "foreign_language", "industrial_arts", "mathematics", "music",
    "physical_education", "science", "social_studies", "vocational", "other", "none",
]  # fmt: skip
Grade = Literal["kindergarten", "elementary", "middle", "9", "10", "11", "12", "mixed", "unknown"]


class Output(BaseModel):
    """What a model says of one page."""

    model_config = _STRICT

    subject: Subject = Field(description="The subject that the page is mostly about; none when it shows nothing of the curriculum.")
    grade: Grade = Field(description="The grade or level of the pupils shown; mixed for several, unknown when nothing says so.")
    course_names: list[str] = Field(max_length=30, description="Courses named on the page, as they are written there.")
    activity_names: list[str] = Field(max_length=30, description="Clubs, teams and other activities named on the page, as written there.")
    people_count: int = Field(ge=0, le=2000, description="People to be seen in the pictures of the page, estimated where there are many.")
    evidence: str = Field(max_length=1000, description="The words or the thing to be seen that the answer rests on.")
    confidence: float = Field(ge=0, le=1, description="How sure the answer is: 0 a guess, 1 certain.")


def get_spec() -> TaskSpec:
    return TaskSpec(
        task_key="page.curricular",
        media_type="page",
        title="Curriculum on a page",
        description="The subject, the grade, courses and activities by name, and how many people are to be seen; with evidence.",
        domain="curricular",
        subjects=PAGES,
        output_model=Output,
        model=ModelTask(_build_request, record_key=_record_key),
        marker=Marker(_marker_folder, _marker_path),
        batch_strategy=BatchStrategy(max_items=1_000),
        owners=("team:content",),
    )


def _build_request(item: WorkItem, prompt: str) -> ModelRequest:
    if item.path is None:
        raise TerminalError(f"{item.subject_key}: the task was given no image. Its subjects query must return bronze_path and artifact.")
    mime_type = str(item.inputs.get("mime_type"))
    if mime_type not in _TAKEN_BY_MODELS:
        raise TerminalError(f"{item.subject_key}: the image is {mime_type}; models take {', '.join(sorted(_TAKEN_BY_MODELS))}. Convert it.")
    return ModelRequest(prompt, (RequestMedium(item.path, mime_type),))


def _record_key(item: WorkItem) -> str:
    return item.subject_key


def _marker_folder(settings: Settings) -> Path | None:
    return settings.curricular_output()


def _marker_path(subject_key: str) -> Path:
    state, school, year, page_num = subject_key.split(":")
    return Path(state, school, year, f"{page_num}.json")
