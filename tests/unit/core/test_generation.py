"""Generation parameters: what the API would refuse is refused when it is read, and names of the API are known."""

import re
from typing import Any

import pytest
from google.genai import types

from medallion_defs.core.generation import GenerationConfig, ThinkingConfig, require_sense


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"maxOutputTokens": -1}, "maxOutputTokens: Input should be greater than or equal to 1"),
        ({"maxOutputTokens": "2048"}, "maxOutputTokens: Input should be a valid integer"),
        ({"maxOutputTokens": 10.5}, "maxOutputTokens: Input should be a valid integer"),
        ({"maxOutputTokens": True}, "maxOutputTokens: Input should be a valid integer"),
        ({"temperature": 9}, "temperature: Input should be less than or equal to 2"),
        ({"temperature": float("nan")}, "temperature: Input should be a finite number"),
        ({"topP": 1.5}, "topP: "),
        ({"topK": 0}, "topK: "),
        ({"candidateCount": 3}, "candidateCount: Input should be 1"),
        ({"thinkingConfig": {"thinkingBudget": "none"}}, "thinkingConfig.thinkingBudget: "),
        ({"thinkingConfig": {"budget": 1}}, "thinkingConfig.budget: "),
        ({"max_output_tokens": 10}, "unknown generation parameter max_output_tokens; there are: temperature,"),
        ({"temprature": 0}, "unknown generation parameter temprature"),
        ({"responseSchema": {}}, "responseSchema: set by the project"),
    ],
)
def test_a_parameter_that_the_api_would_refuse_is_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as refused:
        require_sense(values)
    assert "\n" not in str(refused.value)


def test_parameters_are_kept_as_they_were_written() -> None:
    values = {
        "temperature": 0, "maxOutputTokens": 2048.0, "thinkingConfig": {"thinkingBudget": 0},
        "mediaResolution": "MEDIA_RESOLUTION_LOW", "stopSequences": ["END"], "seed": 7,
    }  # fmt: skip
    assert require_sense(values) is values


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(GenerationConfig, types.GenerationConfig), (ThinkingConfig, types.ThinkingConfig)],
)
def test_every_name_is_one_of_the_apis_own(ours: Any, theirs: Any) -> None:
    known = {field.alias for field in theirs.model_fields.values()}
    assert set(ours.model_fields) <= known
