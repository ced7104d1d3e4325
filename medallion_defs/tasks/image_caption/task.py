"""`image.caption`: what is to be seen in an image, by a model."""

from pydantic import BaseModel, ConfigDict, Field

from medallion_defs.core.errors import TerminalError
from medallion_defs.labeling.contract import ModelRequest, ModelTask, RequestMedium, TaskSpec, WorkItem
from medallion_defs.sources.media.files import medium_of
from medallion_defs.sources.media.subjects import IMAGES

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True)
_TAKEN_BY_MODELS = frozenset({"image/heic", "image/heif", "image/jpeg", "image/png", "image/webp"})


class Output(BaseModel):
    """What a model says of one image."""

    model_config = _STRICT

    caption: str = Field(min_length=1, description="One sentence that says what is to be seen.")
    objects: list[str] = Field(max_length=20, description="Things to be seen, each as a noun in the singular, lower case.")
    visible_text: str | None = Field(description="Text that stands in the image, as it stands there; null when there is none.")
    has_people: bool = Field(description="True when at least one person is to be seen.")


def get_spec() -> TaskSpec:
    return TaskSpec(
        task_key="image.caption",
        media_type="image",
        title="Caption of an image",
        description="One sentence, the objects, the text that stands in the image, and whether people are to be seen.",
        domain="content",
        subjects=IMAGES,
        output_model=Output,
        model=ModelTask(_build_request),
        owners=("team:content",),
    )


def _build_request(item: WorkItem, prompt: str) -> ModelRequest:
    medium = medium_of(item.path, item.inputs.get("filename") or item.subject_key)
    mime_type = str(item.inputs.get("mime_type"))
    if mime_type not in _TAKEN_BY_MODELS:
        raise TerminalError(f"{medium.name} is {mime_type}; models take {', '.join(sorted(_TAKEN_BY_MODELS))}. Deliver it as one of these.")
    return ModelRequest(prompt, (RequestMedium(medium.path, mime_type),))
