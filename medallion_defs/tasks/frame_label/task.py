"""`frame.label`: what is to be seen in each frame of a video, by a model. Its subjects are the frames that another task extracted."""

from pydantic import BaseModel, ConfigDict, Field

from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.contract import BatchStrategy, ModelRequest, ModelTask, RequestMedium, Subjects, TaskSpec, WorkItem
from medallion_defs.sources.media.files import medium_of

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
_QUERIES = load_queries(__package__, "subjects.sql")

FRAMES = Subjects("frames of videos", _QUERIES["candidates"], _QUERIES["inputs"])


class Output(BaseModel):
    """What a model says of one frame."""

    model_config = _STRICT

    labels: list[str] = Field(
        min_length=1, max_length=10, description="What is to be seen, each as one noun in lower case, most important first."
    )
    scene: str = Field(min_length=1, description="Where it is, in at most five words.")
    visible_text: str | None = Field(description="Text that stands in the frame, as it stands there; null when there is none.")


def get_spec() -> TaskSpec:
    return TaskSpec(
        task_key="frame.label",
        media_type="image",
        title="Labels of a video's frames",
        description="Labels, the scene and the text to be seen, for each frame that `video.extract_frames` took.",
        domain="content",
        subjects=FRAMES,
        output_model=Output,
        model=ModelTask(_build_request),
        batch_strategy=BatchStrategy(by_group=True),
        depends_on=("video.extract_frames",),
        owners=("team:content",),
    )


def _build_request(item: WorkItem, prompt: str) -> ModelRequest:
    medium = medium_of(item.path, f"frame {item.subject_key}")
    mime_type = "image/png" if medium.path.suffix == ".png" else "image/jpeg"
    return ModelRequest(prompt, (RequestMedium(medium.path, mime_type),))
