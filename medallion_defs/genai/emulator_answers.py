"""What the emulated model answers: JSON that satisfies the request's schema, the same for the same request.

Pure. Reads requests as the client sends them, camelCase and snake_case mixed. Nothing here knows HTTP, jobs or faults.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

Json = Mapping[str, Any]

_WORDS = ("river", "class", "team", "band", "garden", "letter", "field", "library", "lesson", "student", "bridge", "report", "music", "map")
_TOKEN = re.compile(r"item token: ([0-9a-f]{8})")
_THOUGHT_TOKENS = 37
_IMAGE_TOKENS = 258


def field(request: Json, name: str) -> Any:
    """Return `request[name]`, whether the key came as camelCase or as snake_case; None when it is not there."""
    if name in request:
        return request[name]
    return request.get(re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name))


def generate(model: str, request: Json) -> dict[str, Any]:
    """Return a GenerateContentResponse that ends with STOP."""
    schema = _schema(request)
    text = prompt_text(request)
    answer = f"echo: {text}" if schema is None else json.dumps(_answer(schema, text, _seed(model, request)), ensure_ascii=False)
    return response(model, request, answer)


def response(model: str, request: Json, answer: str | None, finish_reason: str = "STOP") -> dict[str, Any]:
    """Return a GenerateContentResponse around `answer`; None gives a candidate without content."""
    candidate: dict[str, Any] = {"finishReason": finish_reason, "index": 0}
    if answer is not None:
        candidate["content"] = {"role": "model", "parts": [{"text": answer}]}
    usage = usage_metadata(request, answer)
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": model, "responseId": _seed(model, request)[:22]}


def blocked(model: str, request: Json) -> dict[str, Any]:
    """Return the response to a prompt that was not let through: no candidates at all."""
    usage = {"promptTokenCount": prompt_tokens(request), "totalTokenCount": prompt_tokens(request)}
    return {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": usage, "modelVersion": model}


def usage_metadata(request: Json, answer: str | None) -> dict[str, Any]:
    """Return token counts: four characters of text, or a fixed number for an image, a token."""
    prompt = prompt_tokens(request)
    usage = {"promptTokenCount": prompt, "thoughtsTokenCount": _THOUGHT_TOKENS, "serviceTier": "STANDARD"}
    candidates = 0
    if answer is not None:
        candidates = usage["candidatesTokenCount"] = max(1, len(answer) // 4)
    return usage | {"totalTokenCount": prompt + candidates + _THOUGHT_TOKENS}


def prompt_tokens(request: Json) -> int:
    """Return the tokens of everything that is sent: texts and media."""
    media = sum(1 for part in _parts(request) if "text" not in part)
    return max(1, len(prompt_text(request)) // 4) + media * _IMAGE_TOKENS


def prompt_text(request: Json) -> str:
    """Return all text of the request, in order."""
    return "\n".join(part["text"] for part in _parts(request) if "text" in part)


def _parts(request: Json) -> Iterator[Json]:
    contents = field(request, "contents") or []
    system = field(request, "systemInstruction")
    for content in [*([system] if system else []), *contents]:
        yield from content.get("parts", [])


def _schema(request: Json) -> Json | None:
    config = field(request, "generationConfig") or {}
    schema: Json | None = field(config, "responseJsonSchema") or field(config, "responseSchema")
    return schema


def _seed(model: str, request: Json) -> str:
    return hashlib.sha256(f"{model} {json.dumps(request, sort_keys=True)}".encode()).hexdigest()


def _answer(schema: Json, text: str, seed: str) -> Any:
    # An echoed token that is made up would be a swapped answer.
    token = _TOKEN.search(text)
    value = _value(schema, Random(seed), field(schema, "$defs") or {})
    if token and isinstance(value, dict) and "item_token" in value:
        value["item_token"] = token[1]
    return value


def _value(schema: Json, random: Random, definitions: Json, depth: int = 0) -> Any:
    if "$ref" in schema:
        return _value(definitions[schema["$ref"].rpartition("/")[2]], random, definitions, depth + 1)
    for word in ("anyOf", "any_of", "oneOf"):
        if word in schema:
            return _value(_simplest(schema[word], random, depth), random, definitions, depth + 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return random.choice(schema["enum"])
    return _typed_value(schema, random, definitions, depth)


def _simplest(options: Sequence[Json], random: Random, depth: int) -> Json:
    # Deep in a recursive schema, null ends it.
    null = [option for option in options if str(option.get("type", "")).lower() == "null"]
    return null[0] if null and depth > 6 else random.choice(options)


def _typed_value(schema: Json, random: Random, definitions: Json, depth: int) -> Any:
    kinds = schema.get("type", "object" if "properties" in schema else "string")
    kind = str(kinds[0] if isinstance(kinds, list) else kinds).lower()
    if kind == "object":
        return {name: _value(part, random, definitions, depth + 1) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return _array(schema, random, definitions, depth)
    if kind in ("integer", "number"):
        return _number(schema, random, is_whole=kind == "integer")
    if kind == "boolean":
        return random.random() < 0.5
    return None if kind == "null" else _string(schema, random)


def _array(schema: Json, random: Random, definitions: Json, depth: int) -> list[Any]:
    if "prefixItems" in schema:
        return [_value(part, random, definitions, depth + 1) for part in schema["prefixItems"]]
    least = int(field(schema, "minItems") or 0)
    most = max(least, min(int(field(schema, "maxItems") or 3), least + 3))
    length = least if depth > 6 else random.randint(least, most)
    return [_value(schema.get("items", {}), random, definitions, depth + 1) for _ in range(length)]


def _number(schema: Json, random: Random, *, is_whole: bool) -> int | float:
    low = schema.get("minimum", 0)
    high = schema.get("maximum", low + 100 if is_whole else low + 1)
    return random.randint(int(low), int(high)) if is_whole else round(random.uniform(low, high), 3)


def _string(schema: Json, random: Random) -> str:
    if schema.get("format") in ("date", "date-time"):
        return "2026-01-01" if schema["format"] == "date" else "2026-01-01T00:00:00Z"
    text = " ".join(random.choice(_WORDS) for _ in range(random.randint(1, 4)))
    longest = field(schema, "maxLength")
    return text[: int(longest)].strip() if longest else text
