"""How long to wait before the next try: the one rule for items, tasks, runs and calls."""

from datetime import timedelta

LONGEST = timedelta(hours=1)
_MOST_DOUBLINGS = 16  # 2.0 ** 2000 is an OverflowError


def retry_delay(attempts: int, first_seconds: float) -> timedelta:
    """Return the wait after the `attempts`-th try: `first_seconds`, doubled with each further try, at most an hour."""
    return min(timedelta(seconds=first_seconds * 2.0 ** min(max(attempts - 1, 0), _MOST_DOUBLINGS)), LONGEST)
