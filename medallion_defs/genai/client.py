"""The Gemini API as the transport uses it: seven calls, and errors that say what is known afterwards. Bronze location only.

Uploads, creates, cancels and downloads go through google-genai without any retry of its own: a retried create is a second paid job.
Jobs and answers are read as raw JSON, because the client's types drop a job's error, and one field that they do not know makes a
whole list unreadable.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from math import isfinite
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from google import genai
from google.genai import errors, types

from medallion_defs.core import clock
from medallion_defs.core.errors import ConfigurationError, TerminalError, TransientError
from medallion_defs.core.sections import GenaiSettings

DEFAULT_URL = "https://generativelanguage.googleapis.com"
_BUSY = 429
# Given up on the way, by the provider or by something between: it may have been done all the same.
_UNKNOWN = frozenset({408, 499})
# The request itself is at fault, or names a model that does not exist.
_WRONG_REQUEST = frozenset({400, 404})
# A bad key, and an account or region that is not served, come as 400, too.
_OUR_FAULT = ("API_KEY_INVALID", "API key", "FAILED_PRECONDITION")
_LONGEST_PAUSE_SECONDS = 86_400.0
_LEAST_LIFE = timedelta(hours=36)


class RefusedError(TerminalError):
    """The provider refused the call for good. Nothing came of it.

    Attributes:
        code: the HTTP status.
        is_wrong_request: another key, account or region would not help: the request is at fault.
    """

    def __init__(self, message: str, code: int, *, is_wrong_request: bool) -> None:
        super().__init__(message)
        self.code = code
        self.is_wrong_request = is_wrong_request


class BusyError(TransientError):
    """The provider refused the call for now. Nothing came of it. `retry_after`: the seconds it asked for, if it did."""

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnknownOutcomeError(TransientError):
    """The call failed on the way: whether it had an effect, only the provider knows."""


class JobState(msgspec.Struct, frozen=True):
    """What a status read says. `state` is the wire's name without BATCH_STATE_; one that is new to us is over when the wire says done."""

    state: str
    output_file: str | None
    error: str | None
    is_done: bool = False

    @property
    def is_over(self) -> bool:
        return self.is_done or self.state in ("SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "CANCELLED", "EXPIRED")


class GeminiClient:
    """One connection pool to the provider.

    Raises:
        ConfigurationError: there is no key, and no address on loopback either.
    """

    def __init__(self, settings: GenaiSettings) -> None:
        self._base_url = (settings.base_url or DEFAULT_URL).rstrip("/")
        is_local = settings.names_emulator
        self._version = settings.api_version
        self._key = _api_key(settings, is_local=is_local)
        timeout = httpx2.Timeout(settings.timeout_seconds)
        self._http = httpx2.Client(timeout=timeout, trust_env=not is_local, headers={"x-goog-api-key": self._key})
        self._client_http = httpx2.Client(timeout=timeout, trust_env=not is_local)
        options = types.HttpOptions(
            base_url=self._base_url, api_version=self._version, timeout=int(settings.timeout_seconds * 1000),
            httpx_client=self._client_http,
        )  # fmt: skip
        self._client = genai.Client(vertexai=False, api_key=self._key, http_options=options)

    def close(self) -> None:
        self._client.close()
        self._client_http.close()
        self._http.close()

    def upload(self, path: Path, name: str, mime_type: str) -> str:
        """Upload a file under a name of our own; return its URI.

        A file that is there under the name is the same file, and is taken unless it failed or would expire before a job is done.
        """
        with _calls("upload"):
            config = types.UploadFileConfig(name=name, mime_type=mime_type)
            try:
                uploaded = self._client.files.upload(file=path, config=config)
            except errors.ClientError as error:
                if error.code != 409:
                    raise
                uploaded = self._client.files.get(name=name)
                if not _is_good(uploaded):
                    self._client.files.delete(name=name)
                    uploaded = self._client.files.upload(file=path, config=config)
        return uploaded.uri or f"{self._base_url}/{self._version}/{name}"

    def create(self, model: str, file_name: str, display_name: str) -> str:
        """Start a batch job; return its name. Called twice it starts two."""
        with _calls("batch create"):
            job = self._client.batches.create(model=model, src=file_name, config={"display_name": display_name})
        if not job.name:
            raise UnknownOutcomeError("The provider answered a batch create without the job's name.")
        return job.name

    def find(self, display_name: str) -> list[str]:
        """Return the names of the jobs under `display_name`, oldest first."""
        found: list[tuple[str, str]] = []
        page_token = ""
        with _calls("batch list"):
            while True:
                query = {"pageSize": "100"} | ({"pageToken": page_token} if page_token else {})
                answer = self._http.get(f"{self._base_url}/{self._version}/batches", params=query)
                _raise_for_status(answer)
                page = msgspec.json.decode(answer.content, type=_Page)
                found += [(job.metadata.create_time, job.name) for job in page.operations if job.metadata.display_name == display_name]
                if not page.next_page_token or page.next_page_token == page_token:
                    return [name for _, name in sorted(found)]
                page_token = page.next_page_token

    def cancel(self, name: str) -> None:
        with _calls("batch cancel"):
            self._client.batches.cancel(name=name)

    def download(self, file_name: str, path: Path) -> None:
        """Download a result file to `path`."""
        with _calls("download"):
            self._client.files.download(file=file_name, destination=path)

    def read_job(self, name: str) -> JobState:
        """Read a job's state: one cheap call."""
        with _calls("batch get"):
            answer = self._http.get(f"{self._base_url}/{self._version}/{name}")
            _raise_for_status(answer)
            return _job_state(answer.content)

    def generate(self, model: str, request: Mapping[str, Any]) -> bytes:
        """Ask online; return the response's JSON as it came."""
        with _calls("generateContent"):
            answer = self._http.post(f"{self._base_url}/{self._version}/models/{model}:generateContent", json=dict(request))
            _raise_for_status(answer)
        return answer.content


@contextmanager
def gemini_client(settings: GenaiSettings) -> Iterator[GeminiClient]:
    """Open a client, and close it."""
    client = GeminiClient(settings)
    try:
        yield client
    finally:
        client.close()


def _api_key(settings: GenaiSettings, *, is_local: bool) -> str:
    # An empty key would send the client looking for one in the environment; a line end in it would show in an error of the transport.
    key = settings.api_key.get_secret_value().strip() if settings.api_key else ""
    if key and not (key.isascii() and key.isprintable()):
        raise ConfigurationError("MEDALLION_GENAI__API_KEY holds characters that no key has. Set it again, without quotes or line ends.")
    if key:
        return key
    if is_local:
        return "emulator"
    raise ConfigurationError(
        "No key for the Gemini API. Set MEDALLION_GENAI__API_KEY, or name the emulator on purpose: run 'medallion genai emulator' "
        "and set genai.base_url to its address."
    )


def _is_good(file: types.File) -> bool:
    expires_at: datetime | None = file.expiration_time
    is_fresh = expires_at is None or expires_at - clock.now() > _LEAST_LIFE
    return is_fresh and (file.state is None or file.state.name != "FAILED")


class _Status(msgspec.Struct):
    message: str = ""
    status: str = ""
    details: list[dict[str, Any]] = []


class _Output(msgspec.Struct, rename="camel"):
    responses_file: str | None = None


class _Metadata(msgspec.Struct, rename="camel"):
    state: str = ""
    output: _Output | None = None
    display_name: str | None = None
    create_time: str = ""


class _JobError(msgspec.Struct):
    message: str = ""


class _Operation(msgspec.Struct):
    name: str = ""
    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    done: bool = False
    error: _JobError | None = None
    response: _Output | None = None


class _Page(msgspec.Struct, rename="camel"):
    operations: list[_Operation] = []
    next_page_token: str = ""


class _Failure(msgspec.Struct):
    error: _Status = msgspec.field(default_factory=_Status)


def _job_state(raw: bytes) -> JobState:
    operation = msgspec.json.decode(raw, type=_Operation)
    output = operation.metadata.output or operation.response
    return JobState(
        state=operation.metadata.state.removeprefix("BATCH_STATE_"),
        output_file=output.responses_file if output else None,
        error=operation.error.message if operation.error else None,
        is_done=operation.done,
    )


def _raise_for_status(answer: httpx2.Response) -> None:
    if answer.status_code != 200:
        raise _failure(answer.status_code, answer.content)


def _failure(code: int, body: bytes) -> RefusedError | BusyError | UnknownOutcomeError:
    try:
        status = msgspec.json.decode(body, type=_Failure).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = _Status(message=body[:200].decode("utf-8", "replace"))
    message = f"{code}: {status.message}"
    if code == _BUSY:
        return BusyError(message, _retry_delay(status.details))
    if code in _UNKNOWN or not 400 <= code < 500:
        return UnknownOutcomeError(message)
    said = f"{status.status} {status.message} {status.details}"
    return RefusedError(message, code, is_wrong_request=code in _WRONG_REQUEST and not any(word in said for word in _OUR_FAULT))


def _retry_delay(details: list[dict[str, Any]]) -> float | None:
    for detail in details:
        try:
            seconds = float(str(detail.get("retryDelay", "")).removesuffix("s"))
        except ValueError:
            continue
        if isfinite(seconds):
            return min(max(seconds, 0.0), _LONGEST_PAUSE_SECONDS)
    return None


@contextmanager
def _calls(what: str) -> Iterator[None]:
    """Turn what the client and its transport raise into what is known."""
    try:
        yield
    except errors.APIError as error:
        body = json.dumps(error.details if isinstance(error.details, dict) else {"error": {"message": str(error)}}).encode()
        raise _named(_failure(error.code, body), what) from error
    except (RefusedError, BusyError, UnknownOutcomeError) as error:
        raise _named(error, what) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, KeyError, ValueError, TypeError, AttributeError) as error:
        # The last four: the client's own, and our decoder's, when an answer is not JSON or has not the shape they expect.
        raise UnknownOutcomeError(f"Gemini {what}: {type(error).__name__}: {error}") from error


def _named(error: RefusedError | BusyError | UnknownOutcomeError, what: str) -> RefusedError | BusyError | UnknownOutcomeError:
    message = f"Gemini {what} answered {error}"
    if isinstance(error, BusyError):
        return BusyError(message, error.retry_after)
    if isinstance(error, RefusedError):
        return RefusedError(message, error.code, is_wrong_request=error.is_wrong_request)
    return UnknownOutcomeError(message)
