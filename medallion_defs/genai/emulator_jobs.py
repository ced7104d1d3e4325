"""The emulated provider's memory: uploaded files and batch jobs. Time passes by being asked: a job moves on with each poll.

No HTTP here. What it answers has the shapes of the wire; names are those of the REST API.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medallion_defs.core import clock
from medallion_defs.genai import emulator_answers
from medallion_defs.genai.emulator_faults import Faults, Line, spoil_lines, write_file

_STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"
_TYPE = "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch"


class NotThereError(LookupError):
    """The provider knows no such file or job."""


class RefusedError(ValueError):
    """The provider refuses the request (400)."""


@dataclass
class StoredFile:
    """One file at the provider."""

    name: str
    mime_type: str
    content: bytes
    created_at: str
    is_result: bool = False
    announce: str = "right"

    def describe(self, base_url: str) -> dict[str, Any]:
        return self._announced() | {
            "name": self.name,
            "mimeType": self.mime_type,
            "createTime": self.created_at,
            "updateTime": self.created_at,
            "uri": f"{base_url}/v1/{self.name}",
            "state": "ACTIVE",
            "source": "GENERATED" if self.is_result else "UPLOADED",
        }

    def _announced(self) -> dict[str, Any]:
        if self.announce == "nothing":
            return {}
        size = len(self.content) + (self.announce == "wrong_size")
        digest = hashlib.sha256(b"" if self.announce == "wrong_sha256" else self.content).hexdigest()
        # As on the wire: a number as text, and the hex of the hash once more in base64.
        return {"sizeBytes": str(size), "sha256Hash": base64.b64encode(digest.encode()).decode()}


@dataclass
class Upload:
    """A file on its way."""

    name: str | None
    mime_type: str
    content: bytearray = field(default_factory=bytearray)


@dataclass
class Job:
    """One batch job. `lines`: the answers, made when the job was created, so that they are the same however it is polled."""

    name: str
    model: str
    display_name: str
    input_file: str
    request_count: int
    lines: list[Line]
    end_state: str
    polls_left: int
    hidden_lists: int
    created_at: str
    output: str = "usual"
    failure: str | None = None
    state: str = "BATCH_STATE_PENDING"
    output_file: str | None = None

    @property
    def is_over(self) -> bool:
        return self.state not in ("BATCH_STATE_PENDING", "BATCH_STATE_RUNNING")

    def describe(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {
            "@type": _TYPE,
            "model": f"models/{self.model}",
            "name": self.name,
            "displayName": self.display_name,
            "state": self.state,
            "createTime": self.created_at,
            "updateTime": self.created_at,
            "inputConfig": {"fileName": self.input_file},
            "batchStats": self._stats(),
        }
        operation: dict[str, Any] = {"name": self.name, "metadata": metadata}
        if self.is_over:
            operation["done"] = True
            operation |= {"error": {"code": 3, "message": self.failure}} if self.failure else {"response": {}}
        if self.output_file:
            self._name_output(operation, metadata)
        return operation

    def _name_output(self, operation: dict[str, Any], metadata: dict[str, Any]) -> None:
        output = {"responsesFile": self.output_file}
        match self.output:
            case "usual":
                metadata["output"] = operation["response"] = output
            case "response":
                metadata["output"], operation["response"] = {}, output
            case "dest":
                operation["dest"] = {"fileName": self.output_file}
            case "inlined":
                answers = [
                    {name: said for name, said in line.items() if name != "key"} | {"metadata": {"key": line["key"]}} for line in self.lines
                ]
                metadata["output"] = {"inlinedResponses": {"inlinedResponses": answers}}

    def _stats(self) -> dict[str, str]:
        if not self.is_over:
            return {"requestCount": str(self.request_count), "pendingRequestCount": str(self.request_count)}
        good = sum("response" in line for line in self.lines)
        return {
            "requestCount": str(self.request_count),
            "successfulRequestCount": str(good),
            "failedRequestCount": str(self.request_count - good),
        }


@dataclass
class Provider:
    """Files, jobs and calls. `jobs` holds every job that was created and not deleted: what would be paid for."""

    faults: Faults = field(default_factory=Faults)
    files: dict[str, StoredFile] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def start_upload(self, name: str | None, mime_type: str) -> str:
        """Return the id under which the chunks of a file are taken."""
        upload_id = _id("upload", str(len(self.uploads)))[:40]
        self.uploads[upload_id] = Upload(name, mime_type)
        return upload_id

    def store(self, name: str | None, mime_type: str, content: bytes, *, is_result: bool = False) -> StoredFile:
        """Keep a file; a name of the client's own choice can be used once."""
        name = name or f"files/{_id('file', str(len(self.files)))[:12]}"
        if name in self.files:
            raise FileExistsError(name)
        self.files[name] = StoredFile(name, mime_type, content, _now(), is_result)
        return self.files[name]

    def file(self, name: str) -> StoredFile:
        if name not in self.files:
            raise NotThereError(f"File {name} not found, or it has expired.")
        return self.files[name]

    def delete_file(self, name: str) -> None:
        if self.file(name).is_result:
            raise RefusedError("* DeleteFileRequest.name: File ID (name excluding 'files/') cannot be more than 40 characters.")
        del self.files[name]

    def create_job(self, model: str, batch: Mapping[str, Any]) -> Job:
        """Start a job over an uploaded file of request lines. As at the provider, two calls start two jobs."""
        source = emulator_answers.field(emulator_answers.field(batch, "inputConfig") or {}, "fileName")
        if not source:
            raise RefusedError("inputConfig.fileName is required: this emulator takes batches as files.")
        self.require_model(model)
        requests, failure = _read_requests(self.file(source).content)
        if self.faults.max_requests is not None and len(requests) > self.faults.max_requests:
            raise RefusedError(f"The batch is too large: {len(requests)} requests, at most {self.faults.max_requests}.")
        job = self._new_job(model, str(emulator_answers.field(batch, "displayName") or ""), source, requests)
        if failure or self.faults.end_state == "FAILED":
            job.end_state, job.failure = "FAILED", failure or self.faults.failure
        self.jobs[job.name] = job
        return job

    def require_model(self, model: str) -> None:
        if self.faults.models is not None and model not in self.faults.models:
            raise NotThereError(f"models/{model} is not found for API version v1.")

    def job(self, name: str) -> Job:
        if name not in self.jobs:
            raise NotThereError(f"Batch job {name} not found.")
        return self.jobs[name]

    def poll(self, name: str) -> Job:
        """Return a job; each call brings it nearer to its end."""
        job = self.job(name)
        if job.is_over:
            return job
        if job.polls_left > 0:
            job.polls_left, job.state = job.polls_left - 1, "BATCH_STATE_RUNNING"
            return job
        self._end(job)
        return job

    def cancel(self, name: str) -> None:
        job = self.job(name)
        if not job.is_over:
            job.state, job.failure = "BATCH_STATE_CANCELLED", "The job was cancelled."

    def list_jobs(self, page_size: int, page_token: str) -> tuple[list[Job], str | None]:
        """Return a page of jobs, newest first; one that is too new may not show yet."""
        if not page_token:
            for job in self.jobs.values():
                job.hidden_lists -= 1
        shown = [job for job in reversed(self.jobs.values()) if job.hidden_lists < 0]
        start = int(page_token or 0)
        end = start + page_size
        return shown[start:end], str(end) if end < len(shown) else None

    def _new_job(self, model: str, display_name: str, source: str, requests: dict[str, Any]) -> Job:
        lines: list[Line] = [{"response": emulator_answers.generate(model, request), "key": key} for key, request in requests.items()]
        return Job(
            name=f"batches/{_id('job', str(len(self.jobs)))[:36]}",
            model=model,
            display_name=display_name[: self.faults.cut_names],
            output=self.faults.output,
            input_file=source,
            request_count=len(requests),
            lines=spoil_lines(model, requests, lines, self.faults),
            end_state=self.faults.end_state,
            polls_left=self.faults.polls,
            hidden_lists=self.faults.list_lag,
            created_at=_now(),
        )

    def _end(self, job: Job) -> None:
        job.state = f"BATCH_STATE_{job.end_state}"
        if job.end_state in ("SUCCEEDED", "PARTIALLY_SUCCEEDED"):
            content = write_file(job.lines, self.faults)
            result = self.store(f"files/batch-{job.name.removeprefix('batches/')}", "application/jsonl", content, is_result=True)
            result.announce = self.faults.announce
            job.output_file = result.name
        elif job.end_state == "EXPIRED":
            job.failure = "The job did not end within 48 hours."


def _read_requests(content: bytes) -> tuple[dict[str, Any], str | None]:
    """Return the requests by key, and what is wrong with the first bad line."""
    requests: dict[str, Any] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            record = json.loads(line)
            requests[record["key"]] = record["request"]
            if not emulator_answers.field(record["request"], "contents"):
                return requests, f"Line {number}: contents is required"
        except (ValueError, KeyError, TypeError):
            return requests, f"Line {number}: invalid request"
    return requests, None


def _id(*parts: str) -> str:
    return hashlib.sha256(f"{clock.now().isoformat()} {' '.join(parts)}".encode()).hexdigest()


def _now() -> str:
    return clock.now().strftime(_STAMP)
