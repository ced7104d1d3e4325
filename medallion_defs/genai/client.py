"""The Gemini API as the transport uses it: seven calls, and errors that say what is known afterwards. Bronze location only.

Uploads, creates, cancels and downloads go through google-genai without any retry of its own: a retried create is a second paid job.
Jobs and answers are read as raw JSON, because the client's types drop a job's error, and one field that they do not know makes a
whole list unreadable.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import msgspec
from google import genai
from google.genai import errors, types

from medallion_defs.core import clock
from medallion_defs.core.errors import ConfigurationError, TerminalError, TransientError
from medallion_defs.core.sections import GenaiSettings
from medallion_defs.genai import jobs
from medallion_defs.genai.jobs import FileFacts, JobState, ListedJob

T = TypeVar("T")
DEFAULT_URL = "https://generativelanguage.googleapis.com"
_BUSY = 429
_THERE_ALREADY = 409
_BAD, _LARGE = 400, 413
# Given up on the way, by the provider or by something between: it may have been done all the same.
_UNKNOWN = frozenset({408, 499})
# The request itself is at fault, or names a model that does not exist.
_WRONG_REQUEST = frozenset({400, 404, 413})
# A bad key, an account or region that is not served, and a model that does not exist come as 400, too.
_OUR_FAULT = ("API_KEY_INVALID", "API key", "FAILED_PRECONDITION", "model name", "is not found for API version", "is not supported for")
_TOO_LARGE = re.compile(r"too (large|big|long|many)|exceed\w* .*(limit|size|maximum|allowed|bytes)|payload size", re.IGNORECASE)
_ODD_ANSWERS = (KeyError, ValueError, TypeError, AttributeError, RecursionError)
_LONGEST_PAUSE_SECONDS = 86_400.0
_LEAST_LIFE = timedelta(hours=36)


class RefusedError(TerminalError):
    """The provider refused the call for good. Nothing came of it.

    Attributes:
        code: the HTTP status.
        is_wrong_request: another key, account, region or model would not help: the request is at fault.
        is_too_large: a smaller request may be taken.
    """

    def __init__(self, message: str, code: int, *, is_wrong_request: bool) -> None:
        super().__init__(message)
        self.code = code
        self.is_wrong_request = is_wrong_request
        self.is_too_large = code == _LARGE or (code == _BAD and _TOO_LARGE.search(message) is not None)


class BusyError(TransientError):
    """The provider refused the call for now. Nothing came of it. `retry_after`: the seconds it asked for, if it did."""

    def __init__(self, message: str, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class UnknownOutcomeError(TransientError):
    """The call failed on the way: whether it had an effect, only the provider knows."""


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
                if error.code != _THERE_ALREADY:
                    raise
                uploaded = self._client.files.get(name=name)
                if not _is_good(uploaded):
                    self._client.files.delete(name=name)
                    uploaded = self._client.files.upload(file=path, config=config)
        return uploaded.uri or f"{self._base_url}/{self._version}/{name}"

    def create(self, model: str, file_name: str, display_name: str) -> str:
        """Start a batch job; return its name. Called twice it starts two."""
        try:
            with _calls("batch create"):
                job = self._client.batches.create(model=model, src=file_name, config={"display_name": display_name})
        except RefusedError as error:
            # It is there already: what was refused is the answer to a call that was accepted before.
            if error.code != _THERE_ALREADY:
                raise
            raise UnknownOutcomeError(str(error)) from error
        if not job.name:
            raise UnknownOutcomeError("The provider answered a batch create without the job's name.")
        return job.name

    def find(self, display_name: str, input_file: str | None) -> list[str]:
        """Return the names of the jobs under `display_name`, or over the file `input_file` if the name was cut, oldest first."""
        found: list[ListedJob] = []
        page_token = ""
        while True:
            query = {"pageSize": "100"} | ({"pageToken": page_token} if page_token else {})
            page, next_token = self._read("batch list", "batches", jobs.read_page, query)
            found += [job for job in page if job.display_name == display_name or (input_file and job.input_file == input_file)]
            if not next_token or next_token == page_token:
                return [job.name for job in sorted(found, key=lambda job: (job.created_at, job.name))]
            page_token = next_token

    def cancel(self, name: str) -> None:
        with _calls("batch cancel"):
            self._client.batches.cancel(name=name)

    def cancel_unless_over(self, name: str) -> None:
        """Cancel a job; one that is over cannot be cancelled any more, and stays as it is."""
        try:
            self.cancel(name)
        except RefusedError as error:
            if not error.is_wrong_request:
                raise

    def download(self, file_name: str, path: Path) -> None:
        """Download a result file to `path`."""
        with _calls("download"):
            self._client.files.download(file=file_name, destination=path)

    def describe_file(self, file_name: str) -> FileFacts:
        """Return what the provider announces of a result file; nothing where it does not tell."""
        try:
            return self._read("file get", file_name, jobs.read_file_facts)
        except RefusedError:
            return FileFacts()

    def download_inlined(self, name: str, path: Path) -> None:
        """Write the answers that are inside a job to `path`, as lines of a result file."""
        with path.open("wb") as file:
            file.writelines(self._read("batch get", name, lambda raw: list(jobs.inlined_lines(raw))))

    def read_job(self, name: str) -> JobState:
        """Read a job's state: one cheap call."""
        return self._read("batch get", name, lambda raw: jobs.read_job(raw, name))

    def _read(self, what: str, path: str, read: Callable[[bytes], T], query: Mapping[str, str] | None = None) -> T:
        with _calls(what):
            answer = self._http.get(f"{self._base_url}/{self._version}/{path}", params=query)
            _raise_for_status(answer)
            return read(answer.content)

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


class _Failure(msgspec.Struct):
    error: _Status = msgspec.field(default_factory=_Status)


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
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError, *_ODD_ANSWERS) as error:
        # The last: the client's own, and our decoder's, when an answer is not JSON or has not the shape they expect.
        raise UnknownOutcomeError(f"Gemini {what}: {type(error).__name__}: {error}") from error


def _named(error: RefusedError | BusyError | UnknownOutcomeError, what: str) -> RefusedError | BusyError | UnknownOutcomeError:
    message = f"Gemini {what} answered {error}"
    if isinstance(error, BusyError):
        return BusyError(message, error.retry_after)
    if isinstance(error, RefusedError):
        return RefusedError(message, error.code, is_wrong_request=error.is_wrong_request)
    return UnknownOutcomeError(message)
