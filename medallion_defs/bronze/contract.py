"""What a source's `fetch.py` may know of bronze: how its items come in. `FETCH` in that file is one of these."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LandingFetch:
    """People or other systems drop the source's files in `data/landing/{source}/`; one file is one item."""
