"""One POST over HTTP, for what is told to others: alerts, lineage, the Dagster web server. Redirects are not followed.

A redirected POST becomes a GET without a body: what was told would be lost, and the answer a success; and nothing is posted elsewhere
than a person said.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import httpx2

from medallion_defs.core.errors import TransientError


class NoAnswerError(TransientError):
    """There was no answer: no connection, no name, a time-out, or something that is not HTTP."""


@dataclass(frozen=True)
class Answer:
    """`status`: the code. `body`: the start of what the server said."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, on one line."""
        return " ".join(self.body.decode("utf-8", "replace").split())


def post(
    url: str, body: bytes, *, timeout_seconds: float, most_bytes: int, headers: Mapping[str, str] | None = None, is_local: bool = False
) -> Answer:
    """Post a JSON body; return the answer, whatever its code.

    Args:
        most_bytes: of the answer's body that are kept.
        is_local: the server is on this machine: proxies of the environment are passed by.

    Raises:
        NoAnswerError: there was no answer in time. The message does not hold the address, which may be a secret.
    """
    sent = {"Content-Type": "application/json", "User-Agent": "medallion", **(headers or {})}
    try:
        with (
            httpx2.Client(timeout=timeout_seconds, trust_env=not is_local) as client,
            client.stream("POST", url, content=body, headers=sent) as response,
        ):
            return Answer(response.status_code, _start(response, most_bytes))
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise NoAnswerError(f"{type(error).__name__}: {error}") from None


def _start(response: httpx2.Response, most_bytes: int) -> bytes:
    kept = b""
    for chunk in response.iter_bytes():
        kept += chunk
        if len(kept) >= most_bytes:
            break
    return kept[:most_bytes]
