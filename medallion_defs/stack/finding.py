"""One line of what `medallion doctor` says."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        check: what was looked at.
        verdict: "warning" may work, "problem" will not.
        detail: what was found.
        remedy: what to do; empty when all is well.
    """

    check: str
    verdict: Literal["ok", "warning", "problem"]
    detail: str
    remedy: str = ""
