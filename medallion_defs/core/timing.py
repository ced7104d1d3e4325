"""Time that passed: how long a stage took, what that makes a second, and how a duration is written and read ("6h", "1d 12h").

The one place where a rate is computed. What the time is now is `clock.py`'s business; deadlines of waiting loops stay where they wait.
"""

import re
from dataclasses import dataclass, field
from datetime import timedelta
from time import perf_counter

_LONGEST = timedelta(days=36_500)
_SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([dhms])")
_DURATION = re.compile(rf"(?:{_PART.pattern}\s*)+")


@dataclass
class Timer:
    """Runs from its making on; `seconds` is what has passed so far, or until `stop`."""

    _started: float = field(default_factory=perf_counter)
    _stopped: float | None = None

    def stop(self) -> "Timer":
        """Hold the time of the first call; return the timer."""
        if self._stopped is None:
            self._stopped = perf_counter()
        return self

    @property
    def seconds(self) -> float:
        return (perf_counter() if self._stopped is None else self._stopped) - self._started


def per_second(amount: int | None, seconds: float | None) -> float | None:
    """Return `amount` a second, to a tenth; None when nothing was counted or no time was measured."""
    return round(amount / seconds, 1) if amount is not None and seconds else None


def stage_timing(seconds: float, **amounts: int) -> dict[str, float]:
    """Return `seconds` and, for each amount (`rows=…`, `bytes=…`), `{name}_per_second`: 0 when no time was measured.

    As a materialization shows them, where an entry that comes and goes would break the plot.
    """
    return {"seconds": round(seconds, 3), **{f"{name}_per_second": per_second(amount, seconds) or 0.0 for name, amount in amounts.items()}}


def parse_duration(text: str) -> timedelta:
    """Read "90s", "15m", "6h", "1d" or "1d 12h".

    Raises:
        ValueError: it is written in another way.
    """
    if not _DURATION.fullmatch(text.strip()):
        raise ValueError(f"'{text}' is not a duration; write a number and a unit: 90s, 15m, 6h, 1d, or 1d 12h")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    if seconds > _LONGEST.total_seconds():
        raise ValueError(f"'{text}' is longer than {_LONGEST.days} days")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Write a duration with its two largest units, cut down: "6h", "1d 12h", "3m 5s"; "0s" for none."""
    rest, parts = int(duration.total_seconds()), []
    for unit, seconds in _SECONDS.items():
        number, rest = divmod(max(rest, 0), seconds)
        parts.append(f"{number}{unit}")
    first = next((place for place, part in enumerate(parts) if part[0] != "0"), len(parts) - 1)
    return " ".join(part for part in parts[first : first + 2] if part[0] != "0") or "0s"
