"""Generation parameters of a model call: which names there are, and which values make sense.

Checked when a prompt profile or `medallion.yaml` is read, so that a typing error costs nothing. The names are those of the
REST API's GenerationConfig. What the answer looks like (MIME type, schema) is set by the project and refused here.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from medallion_defs.core.errors import describe_invalid

# JSON has one kind of number: 100.0 is a whole one.
Whole = Annotated[int, BeforeValidator(lambda value: int(value) if isinstance(value, float) and value.is_integer() else value)]
_PENALTY = Field(default=None, ge=-2, le=2)
_SET_BY_THE_PROJECT = frozenset({"responseMimeType", "responseSchema", "responseJsonSchema"})


class _Strict(BaseModel):
    # Strict: the API refuses "2048" for 2048, so a text that looks like a number is an error here, too.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ThinkingConfig(_Strict):
    """How long the model may think. A budget of -1 lets the model decide."""

    thinkingBudget: Whole | None = Field(None, ge=-1, le=1_000_000)  # noqa: N815
    thinkingLevel: Literal["MINIMAL", "LOW", "MEDIUM", "HIGH"] | None = None  # noqa: N815
    includeThoughts: bool | None = None  # noqa: N815


class GenerationConfig(_Strict):
    """The parameters that a profile may set, with their limits."""

    temperature: float | None = Field(None, ge=0, le=2)
    topP: float | None = Field(None, ge=0, le=1)  # noqa: N815
    topK: Whole | None = Field(None, ge=1)  # noqa: N815
    maxOutputTokens: Whole | None = Field(None, ge=1, le=1_000_000)  # noqa: N815
    candidateCount: Literal[1] | None = None  # noqa: N815
    seed: Whole | None = Field(None, ge=-(2**31), lt=2**31)
    stopSequences: list[Annotated[str, Field(min_length=1)]] | None = Field(None, max_length=5)  # noqa: N815
    presencePenalty: float | None = _PENALTY  # noqa: N815
    frequencyPenalty: float | None = _PENALTY  # noqa: N815
    mediaResolution: (  # noqa: N815
        Literal["MEDIA_RESOLUTION_LOW", "MEDIA_RESOLUTION_MEDIUM", "MEDIA_RESOLUTION_HIGH"] | None
    ) = None
    thinkingConfig: ThinkingConfig | None = None  # noqa: N815


def require_sense(values: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters as they are.

    Raises:
        ValueError: a name or a value that the API would refuse; the message names each.
    """
    taken = sorted(_SET_BY_THE_PROJECT & values.keys())
    if taken:
        raise ValueError(f"{', '.join(taken)}: set by the project from the task's output model")
    unknown = sorted(values.keys() - GenerationConfig.model_fields.keys())
    if unknown:
        known = ", ".join(GenerationConfig.model_fields)
        raise ValueError(f"unknown generation parameter {', '.join(unknown)}; there are: {known}")
    try:
        GenerationConfig.model_validate(values)
    except ValidationError as error:
        raise ValueError(describe_invalid(error)) from error
    return values


# Kept as it was written, since its text is part of a prompt's id.
GenerationParameters = Annotated[dict[str, Any], AfterValidator(require_sense)]
