"""What goes out: the schema as it is asked for, the key, and what the doctor says of it."""

from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.core.sections import GenaiSettings
from medallion_defs.genai.client import GeminiClient
from medallion_defs.genai.match import TOKEN_FIELD
from medallion_defs.genai.requests import answer_schema
from medallion_defs.stack.doctor import judge_gemini


class Node(BaseModel):
    """A model that contains itself: pydantic's schema of it is a reference."""

    name: str
    children: list["Node"] = []


class Awkward(BaseModel):
    """Fields that are called like keywords."""

    pattern: str = Field(pattern="a+", max_length=3)
    default: str | None = None
    properties: dict[str, int]


def test_the_token_is_asked_for_whatever_the_schema_is() -> None:
    for model in (Node, Awkward):
        asked = answer_schema(model.model_json_schema())
        assert TOKEN_FIELD in asked["properties"]
        assert asked["required"][0] == TOKEN_FIELD
        assert "$ref" not in asked
    assert {"name", "children"} <= answer_schema(Node.model_json_schema())["properties"].keys()


def test_only_keywords_are_left_out_and_not_fields_of_their_name() -> None:
    asked = answer_schema(Awkward.model_json_schema())
    assert {"pattern", "default", "properties"} <= asked["properties"].keys()
    assert not {"pattern", "maxLength"} & asked["properties"]["pattern"].keys()


def test_an_output_model_with_a_field_of_the_tokens_name_is_refused_before_anything_is_paid() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {TOKEN_FIELD: {"type": "string"}}}
    with pytest.raises(ConfigurationError, match="Rename it"):
        answer_schema(schema)


@pytest.mark.parametrize("key", ["", "  \n"])
def test_an_empty_key_is_none_even_if_the_environment_has_another(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "somebody-elses")
    with pytest.raises(ConfigurationError, match="No key"):
        GeminiClient(GenaiSettings(api_key=SecretStr(key)))


def test_a_key_is_sent_as_it_was_set_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_API_KEY", "somebody-elses")
    monkeypatch.setenv("GEMINI_API_KEY", "and-another")
    settings = GenaiSettings(api_key=SecretStr("s3cret\n"))
    client = GeminiClient(settings)
    assert client._client._api_client.api_key == "s3cret"
    client.close()
    assert "s3cret" not in f"{settings!r} {settings.model_dump_json()} {judge_gemini(settings)}"
    with pytest.raises(ConfigurationError) as caught:
        GeminiClient(GenaiSettings(api_key=SecretStr("s3\ncret")))
    assert "cret" not in str(caught.value)


def test_the_doctor_says_who_would_answer() -> None:
    assert judge_gemini(GenaiSettings(api_key=SecretStr("x"))).verdict == "ok"
    assert "no key" in judge_gemini(GenaiSettings(api_key=SecretStr(" "))).detail
    assert "made up" in judge_gemini(GenaiSettings(base_url="http://127.0.0.1:8097", api_key=SecretStr("x"))).detail
    assert "no key" in judge_gemini(GenaiSettings(base_url="http://127.0.0.1.example.com")).detail
