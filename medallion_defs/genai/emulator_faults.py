"""What can go wrong at the provider, on demand: the faults that tests and drills plant in the emulator.

Two kinds. A `CallFault` spoils whole HTTP calls (quota, outage, a cut connection, an outage *after* the call was accepted);
an `ItemFault` spoils single answers of a batch or of an online call. Both say how often, so that what happens is exact.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from medallion_defs.genai import emulator_answers

Call = Literal["generate", "count", "upload", "download", "file", "create", "get", "list", "cancel", "delete"]
Line = dict[str, Any]
Requests = Mapping[str, Mapping[str, Any]]


class CallFault(BaseModel):
    """The next `times` calls of a kind fail.

    `status` alone: refused before anything happened. With `after_accept`: done, and then answered with the error; so a lost
    answer looks. `cut`: the connection ends without an answer; `hang_seconds`: the answer is late; `first_bytes`: the answer ends
    after so many, as if that were all; `body`: that is the answer, such as a page of a gateway, with `status` or 200.
    """

    model_config = ConfigDict(extra="forbid")

    call: Call
    status: int | None = None
    retry_delay: str | None = Field(None, description="A RetryInfo delay such as 53s, with status 429.")
    after_accept: bool = False
    cut: bool = False
    hang_seconds: float = 0
    first_bytes: int | None = None
    body: str | None = None
    message: str = "Planted by the emulator."
    times: int = 1

    @property
    def is_effective(self) -> bool:
        """Whether the call has its effect before it is spoilt."""
        return self.after_accept or self.hang_seconds > 0 or self.first_bytes is not None


class ItemFault(BaseModel):
    """What happens to the answers under `keys`. Online calls have no key: there, `keys` are texts found in the prompt."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal[
        "missing", "duplicate", "repeated", "swapped", "foreign", "truncated", "bad_json", "preamble", "fenced", "two_objects", "invalid",
        "blocked", "safety", "recitation", "max_tokens", "empty", "error", "usage", "torn",
    ]  # fmt: skip
    keys: list[str]
    usage: Any = Field(None, description="With kind usage: what stands as usageMetadata; null: nothing does.")
    code: int = Field(14, description="With kind error: the gRPC code; 14 is UNAVAILABLE, 3 INVALID_ARGUMENT.")


class Faults(BaseModel):
    """Everything that is planted. The default is a provider on a good day."""

    model_config = ConfigDict(extra="forbid")

    calls: list[CallFault] = Field(default_factory=list)
    items: list[ItemFault] = Field(default_factory=list)
    shuffle: bool = Field(False, description="Result lines come in another order.")
    polls: int = Field(1, description="Status reads that a job stays unfinished.")
    end_state: Literal["SUCCEEDED", "FAILED", "EXPIRED", "PARTIALLY_SUCCEEDED"] = "SUCCEEDED"
    failure: str = Field("The job failed.", description="With end_state FAILED: the message of the job's error.")
    output: Literal["usual", "response", "dest", "inlined", "nowhere"] = Field(
        "usual", description="Where a job names its answers: as usual, in the response beside an empty metadata.output, in dest, inside."
    )
    file: list[Literal["bom", "blank_lines"]] = Field(default_factory=list, description="What else is in the result file.")
    announce: Literal["right", "nothing", "wrong_size", "wrong_sha256"] = Field("right", description="What is said of a result file.")
    cut_names: int | None = Field(None, description="Characters of a display name that are kept.")
    models: list[str] | None = Field(None, description="The models that there are; empty: every one.")
    max_requests: int | None = Field(None, description="Most requests of a job; larger ones are refused.")
    list_lag: int = Field(0, description="List calls in which a new job does not show yet.")

    def take(self, call: Call) -> CallFault | None:
        """Return the fault for a call that happens now, and count it."""
        for fault in self.calls:
            if fault.call == call and fault.times > 0:
                fault.times -= 1
                return fault
        return None


def spoil_lines(model: str, requests: Requests, lines: Sequence[Line], faults: Faults) -> list[Line]:
    """Return the result lines of a job with its item faults applied."""
    spoilt = [line for whole in _swap(lines, faults) for line in _spoil(model, requests, whole, faults)]
    return sorted(spoilt, key=lambda line: str(line["key"])[::-1]) if faults.shuffle else spoilt


def _spoil(model: str, requests: Requests, line: Line, faults: Faults) -> list[Line]:
    key = line["key"]
    fault = next((fault for fault in faults.items if key in fault.keys), None)
    if fault is None or fault.kind in ("swapped", "torn"):
        return [line]
    if fault.kind == "missing":
        return []
    if fault.kind == "repeated":
        return [line, line]
    if fault.kind == "duplicate":
        return [line, line | {"response": line["response"] | {"responseId": "another"}}]
    if fault.kind == "foreign":
        return [{**line, "key": f"foreign-{key}"}]
    if fault.kind == "error":
        return [{"key": key, "error": {"code": fault.code, "message": "The service is currently unavailable.", "details": []}}]
    return [{"key": key, "response": spoil_response(model, requests[key], fault)}]


def spoil_response(model: str, request: Mapping[str, Any], fault: ItemFault) -> dict[str, Any]:
    """Return the response to one request as the fault makes it."""
    reasons = {"safety": "SAFETY", "recitation": "RECITATION"}
    if fault.kind in reasons:
        return emulator_answers.response(model, request, None, reasons[fault.kind])
    if fault.kind == "blocked":
        return emulator_answers.blocked(model, request)
    if fault.kind == "empty":
        return {"usageMetadata": emulator_answers.usage_metadata(request, None), "modelVersion": model}
    whole = emulator_answers.generate(model, request)
    if fault.kind == "usage":
        return {name: value for name, value in whole.items() if name != "usageMetadata"} | (
            {} if fault.usage is None else {"usageMetadata": fault.usage}
        )
    answer = whole["candidates"][0]["content"]["parts"][0]["text"]
    if fault.kind == "max_tokens":
        return emulator_answers.response(model, request, answer[: len(answer) // 2], "MAX_TOKENS")
    spoilt = {
        "truncated": answer[: len(answer) // 2], "bad_json": f"Sure! {answer[:-1]}", "invalid": json.dumps({"unexpected": True}),
        "preamble": f"Sure! Here it is:\n{answer}\nAnything else?", "fenced": f"```json\n{answer}\n```",
        "two_objects": f"{answer}\nor rather\n{answer}",
    }  # fmt: skip
    return emulator_answers.response(model, request, spoilt.get(fault.kind, answer))


def write_file(lines: Sequence[Line], faults: Faults) -> bytes:
    """Return the result file of a job with the faults of files applied."""
    torn = {key for fault in faults.items if fault.kind == "torn" for key in fault.keys}
    texts = [json.dumps(line, ensure_ascii=False) for line in lines]
    texts = [text[: len(text) // 2] if line["key"] in torn else text for line, text in zip(lines, texts, strict=True)]
    between = "\n \n\n" if "blank_lines" in faults.file else "\n"
    return (b"\xef\xbb\xbf" if "bom" in faults.file else b"") + "".join(text + between for text in texts).encode()


def _swap(lines: Sequence[Line], faults: Faults) -> list[Line]:
    """Give each pair of `swapped` keys the other's answer."""
    keys = [key for fault in faults.items if fault.kind == "swapped" for key in fault.keys]
    other = dict(zip(keys[0::2], keys[1::2], strict=False)) | dict(zip(keys[1::2], keys[0::2], strict=False))
    by_key = {line["key"]: line for line in lines}
    return [{**by_key[other[line["key"]]], "key": line["key"]} if other.get(line["key"]) in by_key else line for line in lines]
