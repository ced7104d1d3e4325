"""Who may talk to the web server: programs of this machine, and pages that the web server itself has served.

A loopback port is open to every page in the user's browser. Such a page is told by what a browser adds and a page cannot
change: `Host` (another name for 127.0.0.1, after DNS rebinding), `Origin` and `Sec-Fetch-Site` (who asks). A program that
sends none of these, such as curl, is let in: it could read the data folder as well.

Pure ASGI, for HTTP and for websockets; nothing of Dagster here.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "::1"})
_GRAPHQL = "/graphql"
_QUERY_TYPES = frozenset({"application/json", "application/graphql"})
_OWN_SITES = frozenset({"same-origin", "none", ""})
# A page that could be framed could be clicked through.
_HEADERS = ((b"x-frame-options", b"DENY"), (b"content-security-policy", b"frame-ancestors 'none'"))


class Guard:
    """ASGI middleware: refuses what a foreign page sent, with a sentence and status 403, 405 or 415.

    Args:
        hosts: names under which the web server is reached besides those of loopback, any port.
    """

    def __init__(self, app: App, hosts: Iterable[str] = ()) -> None:
        self.app = app
        self.names = LOOPBACK_NAMES | {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refusal = self._judge(scope)
        if refusal is None:
            await self.app(scope, receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": refusal[1][:120]})
        else:
            await _refuse(send, *refusal)

    def _judge(self, scope: Scope) -> tuple[int, str] | None:
        headers = _read_headers(scope)
        reason = refuse_foreign(headers, self.names, is_websocket=scope["type"] == "websocket", method=scope.get("method", "GET"))
        if reason is not None:
            return 403, reason
        if scope["type"] == "http" and scope["path"].rstrip("/").endswith(_GRAPHQL):
            return refuse_query(scope["method"], headers)
        return None


def refuse_foreign(headers: Mapping[str, str], names: Iterable[str], *, is_websocket: bool, method: str) -> str | None:
    """Return why a request with these headers is not one of ours; None when it is.

    Args:
        headers: by lower-case name; one that was sent twice has both values, joined by a comma.
        names: host names of the web server, in lower case, without ports.
    """
    host = headers.get("host", "")
    if _host_name(host) not in names:
        return f"The web server is not known as {host!r}. If it is to be, add the name to web.hosts in medallion.yaml."
    origin = headers.get("origin")
    if origin is not None and not _is_own_origin(origin, host, names):
        return f"A page of {origin!r} may not use this web server."
    if headers.get("sec-fetch-site", "") not in _OWN_SITES and not _is_link(headers, is_websocket=is_websocket, method=method):
        return "A page of another site may link to this web server, and nothing else."
    return None


def refuse_query(method: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
    """Return why GraphQL is not asked in this way: a link, an image or a form must not carry a mutation."""
    if method == "GET" and "text/html" in headers.get("accept", ""):
        return None  # the page with the editor; it executes nothing
    if method != "POST":
        return 405, "GraphQL is asked by POST only."
    if headers.get("content-type", "").split(";")[0].strip().lower() not in _QUERY_TYPES:
        return 415, "GraphQL is asked with Content-Type: application/json."
    return None


def _is_own_origin(origin: str, host: str, names: Iterable[str]) -> bool:
    """Behind a proxy that changes Host the origin is a configured name; on loopback another port is another program."""
    try:
        found = urlsplit(origin)
        name = found.hostname or ""
    except ValueError:
        return False
    if found.scheme not in ("http", "https") or name not in names:
        return False
    return found.netloc.lower() == host.lower() or name not in LOOPBACK_NAMES


def _is_link(headers: Mapping[str, str], *, is_websocket: bool, method: str) -> bool:
    is_page = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return is_page and method == "GET" and not is_websocket


def _host_name(host: str) -> str:
    """Return the name in a Host header, without the port, in lower case; empty when there is not exactly one."""
    try:
        found = urlsplit(f"//{host}")
        return (found.hostname or "") if found.netloc == host and "@" not in host and "," not in host else ""
    except ValueError:
        return ""


def _read_headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return send_with_headers


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = f"{reason}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *_HEADERS]})
    await send({"type": "http.response.body", "body": body})
