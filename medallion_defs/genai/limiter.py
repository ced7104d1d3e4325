"""One limiter for all processes, in Postgres: how fast the provider is asked, and how much it may have under way.

Token buckets (requests, and prompt tokens of a model) fill by the minute; the provider's own wish for a pause (`RetryInfo`) holds
a bucket shut for everybody. Each call commits at once: the connection must be in autocommit mode.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any, LiteralString

import psycopg

from medallion_defs.core.sections import GenaiSettings
from medallion_defs.core.sql import load_queries
from medallion_defs.genai.state import GenaiBatch

REQUESTS = "requests"
_PAUSE_SECONDS = 5.0


class Limiter:
    """The buckets over one connection in autocommit mode."""

    def __init__(self, connection: psycopg.Connection[Any], settings: GenaiSettings) -> None:
        self._connection = connection
        self._settings = settings

    def take_request(self) -> float:
        """Take one HTTP call; return 0, or the seconds to wait before asking again."""
        return self._take(REQUESTS, 1, self._settings.requests_per_minute)

    def take_tokens(self, model: str, tokens: int) -> float:
        """Take the prompt tokens of one online call; return 0, or the seconds to wait before asking again.

        A call is let through from a bucket that is not empty, however large it is, and the bucket is in debt after it.
        """
        return self._take(f"tokens:{model}", tokens, self._settings.tokens_per_minute)

    def pause(self, seconds: float | None) -> None:
        """Hold off every process for as long as the provider asks; None: it did not say how long, so for a moment."""
        self._connection.execute(_query("pause"), {"bucket": REQUESTS, "seconds": _PAUSE_SECONDS if seconds is None else seconds})

    def room_for(self, batch: GenaiBatch) -> str | None:
        """Return None when the batch may be sent now, else what it waits for."""
        params = {"model": batch.model, "batch_id": batch.batch_id}
        batches, tokens = self._connection.execute(_query("under_way"), params).fetchone() or (0, 0)
        if batches >= self._settings.max_active_batches:
            return f"{batches} batches are under way (genai.max_active_batches)"
        # One batch alone is let through whatever its size: only the provider can refuse it.
        if tokens and tokens + batch.estimated_tokens > self._settings.max_enqueued_tokens:
            return f"{tokens:,} prompt tokens of {batch.model} are under way (genai.max_enqueued_tokens)"
        return None

    def _take(self, bucket: str, amount: int, per_minute: int) -> float:
        params = {"bucket": bucket, "amount": amount, "per_minute": per_minute}
        if self._connection.execute(_query("take"), params).fetchone():
            return 0.0
        [(seconds,)] = self._connection.execute(_query("wait"), params).fetchall()
        return float(seconds)


@cache
def _queries() -> Mapping[str, LiteralString]:
    return load_queries(__package__, "limiter.sql")


def _query(name: str) -> LiteralString:
    return _queries()[name]
