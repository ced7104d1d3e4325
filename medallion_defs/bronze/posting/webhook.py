"""A post to a Slack-compatible webhook: `{"text": …}`. In bronze, because no other layer reaches out.

The address is a secret: anyone who knows it may post. So messages show its host alone.
"""

import json
from urllib.parse import urlsplit

from medallion_defs.core.errors import ConfigurationError, TransientError
from medallion_defs.core.http_post import NoAnswerError, post

_SECONDS = 10.0
_MOST_BYTES = 500


class WebhookError(TransientError):
    """The webhook did not take a post."""


def post_text(url: str, text: str) -> str:
    """Post `text`; return what the server answered: status and the start of the body.

    Raises:
        ConfigurationError: the address is not http or https.
        WebhookError: no answer within ten seconds, or another one than 2xx.
    """
    host = urlsplit(url).hostname
    if urlsplit(url).scheme not in ("http", "https") or host is None:
        raise ConfigurationError("alerts.webhook_url is not an http:// or https:// address.")
    try:
        answer = post(url, json.dumps({"text": text}).encode(), timeout_seconds=_SECONDS, most_bytes=_MOST_BYTES)
    except NoAnswerError as error:
        raise WebhookError(f"The webhook at {host} did not take the post: {error}") from None
    said = f"{answer.status} {answer.text}".strip()
    if not 200 <= answer.status < 300:
        raise WebhookError(f"The webhook at {host} refused the post: {said}")
    return said
