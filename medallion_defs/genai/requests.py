"""From a record to the line that is sent: prompt, media, answer schema, item token; and the request file of a batch.

Pure but for the file. Lines are in the names of the REST API, so that the same line serves a batch and an online call. Media go
inside the line when they are small; larger ones are named, and uploaded just before the batch is sent (`submit.py`), since an
upload expires.
"""

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.genai.match import TOKEN_FIELD
from medallion_defs.storage.local.files import read_checked

REQUESTS_FILE, RESPONSES_FILE = "requests.jsonl", "responses.jsonl"
# Downloaded, and not compared yet with what is announced of it.
RESPONSES_PART = RESPONSES_FILE + ".part"
UPLOAD_SCHEME = "upload:"
# Result lines of our own, for records whose line could not be sent.
LEFT_OUT_FILE = "left_out.jsonl"
DEFAULT_OUTPUT_TOKENS = 8_192
# Keywords that the API does not take. What they say is checked here, when the answer is parsed.
_NOT_TAKEN = frozenset(
    {"pattern", "minLength", "maxLength", "default", "discriminator", "examples", "exclusiveMinimum", "exclusiveMaximum"}
)
_CHARACTERS_PER_TOKEN = 4
_IMAGE_TOKENS = 1_120
_BYTES_PER_MEDIA_TOKEN = 1_000


@dataclass(frozen=True)
class Media:
    """One file that goes with a prompt. `path` must stay until the batch is sent; `sha256` is what was published, where it is known."""

    path: Path
    mime_type: str
    sha256: str | None = None


@dataclass(frozen=True)
class Prompt:
    """What all records of a batch share: the answer's JSON Schema, system instruction, generation settings (REST names)."""

    model: str
    schema: Mapping[str, Any]
    generation: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None

    @cached_property
    def asked_schema(self) -> dict[str, Any]:
        """The schema as every request of the batch has it."""
        return answer_schema(self.schema)


@dataclass(frozen=True)
class RequestFile:
    """A request file on the disk. `fingerprint`: sha256 of its bytes."""

    path: Path
    fingerprint: str
    bytes: int


def item_token(batch_id: str, record_key: str) -> str:
    """Return the eight hex digits that a record's own answer must repeat."""
    return hashlib.sha256(f"{batch_id}\n{record_key}".encode()).hexdigest()[:8]


def answer_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return `schema` as it is asked for: with the token first, without keywords that the API refuses.

    Raises:
        ConfigurationError: it has a field of the token's name.
    """
    asked: dict[str, Any] = _taken(schema)
    if reference := str(asked.pop("$ref", "")):
        # A model that contains itself is only a reference at the top, and the token could not be put there.
        asked = {**asked, **asked["$defs"][reference.removeprefix("#/$defs/")]}
    if TOKEN_FIELD in asked.get("properties", {}):
        raise ConfigurationError(f"The output model has a field '{TOKEN_FIELD}', which is taken for the check of the answer. Rename it.")
    asked["properties"] = {TOKEN_FIELD: {"type": "string", "description": "The item token of this request."}} | asked.get("properties", {})
    asked["required"] = [TOKEN_FIELD, *asked.get("required", [])]
    return asked


def request_line(record_key: str, token: str, text: str, media: Sequence[Media], prompt: Prompt, inline_bytes: int) -> dict[str, Any]:
    """Return one request, ready for the file.

    Raises:
        ChangedBytesError: a medium has other bytes than were published.
        OSError: a medium cannot be read.
    """
    asked = f"{text}\n\nitem token: {token}\nRepeat the item token in the field {TOKEN_FIELD}."
    request: dict[str, Any] = {
        "contents": [{"role": "user", "parts": [*(_part(medium, inline_bytes) for medium in media), {"text": asked}]}],
        "generationConfig": {
            **prompt.generation,
            "responseMimeType": "application/json",
            "responseJsonSchema": prompt.asked_schema,
        },
    }
    if prompt.system:
        request["systemInstruction"] = {"parts": [{"text": prompt.system}]}
    return {"key": record_key, "request": request}


def estimate_tokens(line: Mapping[str, Any]) -> int:
    """Return about how many prompt tokens a line has: for limits and reservations, not for bills."""
    request = line["request"]
    parts = [*request["contents"][0]["parts"], *request.get("systemInstruction", {}).get("parts", [])]
    schema = len(json.dumps(request["generationConfig"]["responseJsonSchema"])) // _CHARACTERS_PER_TOKEN
    return schema + sum(_part_tokens(part) for part in parts)


def max_output_tokens(line: Mapping[str, Any]) -> int:
    """Return how many tokens the answer to a line may have: for reservations."""
    return int(line["request"]["generationConfig"].get("maxOutputTokens", DEFAULT_OUTPUT_TOKENS))


def error_line(key: str, code: int, error: object) -> bytes:
    """Return a result line of our own for a record that was not asked, or whose answer cannot be kept."""
    return encode_line({"key": key, "error": {"code": code, "message": str(error)}})


def encode_line(line: Mapping[str, Any]) -> bytes:
    """Return a result line of our own as it is kept."""
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"


def write_requests(path: Path, lines: Iterable[Mapping[str, Any]]) -> RequestFile:
    """Write a batch's requests durably, one line at a time; return what was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    digest, size = hashlib.sha256(), 0
    with path.open("wb") as file:
        for line in lines:
            raw = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
            digest.update(raw)
            size += file.write(raw)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(path.parent)
    return RequestFile(path, digest.hexdigest(), size)


def outbox_path(data_path: Path, batch_id: str) -> Path:
    """Return the request file of a batch that is to be sent."""
    return data_path / "outbox" / batch_id / REQUESTS_FILE


def uploads_in(line: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the parts of a line whose media are to be uploaded; `fileUri` is to be replaced in place, and `sha256` taken out."""
    for part in line["request"]["contents"][0]["parts"]:
        if part.get("fileData", {}).get("fileUri", "").startswith(UPLOAD_SCHEME):
            yield part["fileData"]


def _part(medium: Media, inline_bytes: int) -> dict[str, Any]:
    if medium.path.stat().st_size > inline_bytes:
        published = {"sha256": medium.sha256} if medium.sha256 else {}
        return {"fileData": {"fileUri": f"{UPLOAD_SCHEME}{medium.path}", "mimeType": medium.mime_type, **published}}
    content = read_checked(medium.path, medium.sha256)
    return {"inlineData": {"data": base64.b64encode(content).decode(), "mimeType": medium.mime_type}}


def _part_tokens(part: Mapping[str, Any]) -> int:
    if "text" in part:
        return len(part["text"]) // _CHARACTERS_PER_TOKEN + 1
    medium = part.get("inlineData") or part["fileData"]
    if medium["mimeType"].startswith("image/"):
        return _IMAGE_TOKENS
    size = len(medium["data"]) if "data" in medium else Path(medium["fileUri"].removeprefix(UPLOAD_SCHEME)).stat().st_size
    return size // _BYTES_PER_MEDIA_TOKEN + 1


def _taken(schema: Any) -> Any:
    """Return a JSON Schema without the keywords that are not taken; `const` becomes an enum of one."""
    if isinstance(schema, list):
        return [_taken(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept = {name: _taken_properties(part) if name in ("properties", "$defs") else _taken(part) for name, part in schema.items()
            if name not in _NOT_TAKEN and name != "const"}  # fmt: skip
    return kept | ({"enum": [schema["const"]]} if "const" in schema else {})


def _taken_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    # Their names are fields of the answer, not keywords.
    return {name: _taken(part) for name, part in properties.items()}


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
