"""A post to a Slack-compatible webhook: `{"text": …}`. In bronze, because no other layer reaches out.

The address is a secret, for whoever knows it may post: no message here shows more of it than the host.
"""

import http.client
import json
import urllib.error
import urllib.request
from typing import IO
from urllib.parse import urlsplit

from medallion_defs.core.errors import ConfigurationError, TransientError

_SECONDS = 10.0
_MOST_BYTES = 500


class WebhookError(TransientError):
    """The webhook did not take a post."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    # Elsewhere than where a person said nothing is posted; the 3xx is then an error.
    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: http.client.HTTPMessage, newurl: str
    ) -> None:
        return None


def post_text(url: str, text: str) -> str:
    """Post `text`; return what the server answered: status and the start of the body.

    Raises:
        ConfigurationError: the address is not http or https.
        WebhookError: no answer within ten seconds, or another one than 2xx.
    """
    host = urlsplit(url).hostname
    if urlsplit(url).scheme not in ("http", "https") or host is None:
        raise ConfigurationError("alerts.webhook_url is no http:// or https:// address.")
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json", "User-Agent": "medallion"})
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=_SECONDS) as response:
            return _answer(response.status, response.read(_MOST_BYTES))
    except urllib.error.HTTPError as error:
        with error:
            raise WebhookError(f"The webhook at {host} refused the post: {_answer(error.code, error.read(_MOST_BYTES))}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise WebhookError(f"The webhook at {host} did not take the post: {type(error).__name__}: {reason}") from None


def _answer(status: int, body: bytes) -> str:
    text = " ".join(body.decode("utf-8", "replace").split())
    return f"{status} {text}".strip()
