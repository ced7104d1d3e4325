"""A local stand-in for the Gemini API: the endpoints that the google-genai client uses, over HTTP on loopback.

For tests, drills and the demo. It answers with JSON that satisfies the request's schema and can be told to misbehave
(`POST /emulator/faults`, see `emulator_faults.py`; `GET /emulator/state` shows jobs and calls). It forgets everything when it
ends, and nothing chooses it by itself: a process talks to it only when its settings name its address.

    GET    /{version}/batches[/{id}]                        POST …/batches/{id}:cancel       DELETE …/batches/{id}
    POST   /{version}/models/{model}:generateContent | :countTokens | :batchGenerateContent
    POST   /upload/{version}/files                          (resumable)
    GET    /{version}/files/{id}[:download]                 DELETE …/files/{id}
"""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from medallion_defs.genai import emulator_answers
from medallion_defs.genai.emulator_faults import Call, CallFault, Faults, spoil_response
from medallion_defs.genai.emulator_jobs import NotThereError, Provider, RefusedError

_START_SECONDS = 10.0
Handler = Callable[[Provider, Request], Awaitable[Response]]

_STATUS = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ALREADY_EXISTS", 429: "RESOURCE_EXHAUSTED"}


class _CutConnection(Response):
    """Promises a body and ends the connection instead."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1000")]})


def create_app(provider: Provider | None = None) -> Starlette:
    """Return the emulator as an ASGI application over `provider`, a fresh one by default."""
    memory = provider or Provider()
    app = Starlette(
        routes=[
            Route("/emulator/faults", _endpoint(memory, None, _set_faults), methods=["POST"]),
            Route("/emulator/state", _endpoint(memory, None, _state)),
            Route("/upload/{version}/files", _endpoint(memory, "upload", _upload), methods=["POST"]),
            Route("/{version}/models/{model}:generateContent", _endpoint(memory, "generate", _generate), methods=["POST"]),
            Route("/{version}/models/{model}:countTokens", _endpoint(memory, "count", _count), methods=["POST"]),
            Route("/{version}/models/{model}:batchGenerateContent", _endpoint(memory, "create", _create), methods=["POST"]),
            Route("/{version}/batches", _endpoint(memory, "list", _list)),
            Route("/{version}/batches/{id}:cancel", _endpoint(memory, "cancel", _cancel), methods=["POST"]),
            Route("/{version}/batches/{id}", _endpoint(memory, "get", _get), methods=["GET"]),
            Route("/{version}/batches/{id}", _endpoint(memory, "delete", _delete_job), methods=["DELETE"]),
            Route("/{version}/files/{id}:download", _endpoint(memory, "download", _download)),
            Route("/download/{version}/files/{id}:download", _endpoint(memory, "download", _download)),
            Route("/{version}/files/{id}", _endpoint(memory, "file", _file), methods=["GET"]),
            Route("/{version}/files/{id}", _endpoint(memory, "delete", _delete_file), methods=["DELETE"]),
        ],
        exception_handlers={HTTPException: _unknown_path},
    )
    app.state.provider = memory
    return app


def serve(port: int) -> None:
    """Serve on loopback until the process is told to stop."""
    uvicorn.run(create_app(), host="127.0.0.1", port=port, log_level="warning")


@contextmanager
def running(provider: Provider) -> Iterator[str]:
    """Serve `provider` from a thread of this process; give the base URL.

    Raises:
        TimeoutError: the server did not come up.
    """
    server = uvicorn.Server(uvicorn.Config(create_app(provider), host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run, name="gemini-emulator", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{_wait_for_port(server)}"
    finally:
        server.should_exit = True
        thread.join()


def _wait_for_port(server: uvicorn.Server) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while not server.started:
        if time.monotonic() > deadline:
            raise TimeoutError(f"The emulator did not start within {_START_SECONDS:.0f} s.")
        time.sleep(0.01)
    port: int = server.servers[0].sockets[0].getsockname()[1]
    return port


def _endpoint(provider: Provider, call: Call | None, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a handler with the key check, the planted faults and the provider's way of saying no."""

    async def endpoint(request: Request) -> Response:
        if call is None:
            return await handler(provider, request)
        provider.calls.append(call)
        # The address of an upload is its credential: chunks carry no key.
        if not request.headers.get("x-goog-api-key") and "upload_id" not in request.query_params:
            return _error(403, "Method doesn't allow unregistered callers. Please use API Key.")
        fault = provider.faults.take(call)
        if fault is None or fault.is_effective:
            answer = await _answer(handler, provider, request)
            return await _spoil(fault, answer) if fault else answer
        return await _spoil(fault, Response())

    return endpoint


async def _answer(handler: Handler, provider: Provider, request: Request) -> Response:
    try:
        return await handler(provider, request)
    except NotThereError as error:
        return _error(404, str(error))
    except FileExistsError as error:
        return _error(409, f"Requested entity already exists: {error}")
    except (RefusedError, ValueError) as error:
        return _error(400, str(error))


async def _spoil(fault: CallFault, answer: Response) -> Response:
    await asyncio.sleep(fault.hang_seconds)
    if fault.cut:
        return _CutConnection()
    if fault.body is not None:
        return Response(fault.body, fault.status or 200, media_type="text/html")
    if fault.first_bytes is not None:
        return Response(bytes(answer.body)[: fault.first_bytes], answer.status_code, media_type=answer.media_type)
    if fault.status is None:
        return answer
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": fault.retry_delay}] if fault.retry_delay else []
    return _error(fault.status, fault.message, details)


def _error(code: int, message: str, details: list[dict[str, Any]] | None = None) -> JSONResponse:
    status = _STATUS.get(code, "UNAVAILABLE" if code >= 500 else "INVALID_ARGUMENT")
    return JSONResponse({"error": {"code": code, "message": message, "status": status, "details": details or []}}, status_code=code)


async def _unknown_path(request: Request, _error_raised: Exception) -> Response:
    return _error(404, f"The emulator has no {request.method} {request.url.path}.")


async def _set_faults(provider: Provider, request: Request) -> Response:
    try:
        provider.faults = Faults.model_validate_json(await request.body())
    except ValueError as error:
        return _error(400, str(error))
    return JSONResponse(provider.faults.model_dump())


async def _state(provider: Provider, _request: Request) -> Response:
    jobs = [job.describe() for job in provider.jobs.values()]
    return JSONResponse({"jobs": jobs, "files": list(provider.files), "calls": provider.calls})


async def _generate(provider: Provider, request: Request) -> Response:
    model, body = request.path_params["model"], await request.json()
    provider.require_model(model)
    text = emulator_answers.prompt_text(body)
    for fault in provider.faults.items:
        if any(key in text for key in fault.keys):
            return JSONResponse(spoil_response(model, body, fault))
    return JSONResponse(emulator_answers.generate(model, body))


async def _count(_provider: Provider, request: Request) -> Response:
    return JSONResponse({"totalTokens": emulator_answers.prompt_tokens(await request.json())})


async def _create(provider: Provider, request: Request) -> Response:
    body = await request.json()
    return JSONResponse(provider.create_job(request.path_params["model"], body.get("batch", {})).describe())


async def _get(provider: Provider, request: Request) -> Response:
    return JSONResponse(provider.poll(f"batches/{request.path_params['id']}").describe())


async def _list(provider: Provider, request: Request) -> Response:
    jobs, token = provider.list_jobs(int(request.query_params.get("pageSize", 50)), request.query_params.get("pageToken", ""))
    return JSONResponse({"operations": [job.describe() for job in jobs]} | ({"nextPageToken": token} if token else {}))


async def _cancel(provider: Provider, request: Request) -> Response:
    provider.cancel(f"batches/{request.path_params['id']}")
    return JSONResponse({})


async def _delete_job(provider: Provider, request: Request) -> Response:
    del provider.jobs[provider.job(f"batches/{request.path_params['id']}").name]
    return JSONResponse({})


async def _upload(provider: Provider, request: Request) -> Response:
    """Take the steps of a resumable upload: start, then chunks, the last of which finalizes."""
    command = request.headers.get("x-goog-upload-command", "")
    if "start" in command:
        return _start_upload(provider, request, await request.json())
    upload = provider.uploads.get(request.query_params.get("upload_id", ""))
    if upload is None:
        raise NotThereError("There is no such upload.")
    upload.content += await request.body()
    if "finalize" not in command:
        return Response(headers={"x-goog-upload-status": "active"})
    stored = provider.store(upload.name, upload.mime_type, bytes(upload.content))
    return JSONResponse({"file": stored.describe(_base_url(request))}, headers={"x-goog-upload-status": "final"})


def _start_upload(provider: Provider, request: Request, body: dict[str, Any]) -> Response:
    file = body.get("file", {})
    name = file.get("name")
    if name in provider.files:
        raise FileExistsError(name)
    mime_type = emulator_answers.field(file, "mimeType") or request.headers.get("x-goog-upload-header-content-type", "")
    upload_id = provider.start_upload(name, mime_type)
    version = request.path_params["version"]
    url = f"{_base_url(request)}/upload/{version}/files?upload_id={upload_id}&upload_protocol=resumable"
    return Response(headers={"x-goog-upload-url": url, "x-goog-upload-status": "active"})


async def _file(provider: Provider, request: Request) -> Response:
    return JSONResponse(provider.file(f"files/{request.path_params['id']}").describe(_base_url(request)))


async def _download(provider: Provider, request: Request) -> Response:
    return Response(provider.file(f"files/{request.path_params['id']}").content, media_type="application/octet-stream")


async def _delete_file(provider: Provider, request: Request) -> Response:
    provider.delete_file(f"files/{request.path_params['id']}")
    return JSONResponse({})


def _base_url(request: Request) -> str:
    return str(request.base_url).rstrip("/")
