"""What a source's `fetch.py` may know of bronze: how its items come in. `FETCH` in that file is one of these."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medallion_defs.core.settings import Settings


@dataclass(frozen=True)
class LandingFetch:
    """People or other systems drop the source's files in `data/landing/{source}/`; one file is one item."""


@dataclass(frozen=True)
class TreeScope:
    """Two trees of the same shape, and which part of them is wanted.

    A page is the label `{labels_path}/{state}/{school}/{year}/{page_num}.json` and the image of that name below `images_path`.

    Attributes:
        states: only these folders of the first level; None: all.
        from_year, to_year: only the years from and up to these.
    """

    labels_path: Path
    images_path: Path
    states: frozenset[str] | None = None
    from_year: int | None = None
    to_year: int | None = None

    def wants_state(self, state: str) -> bool:
        return self.states is None or state in self.states

    def wants_year(self, year: int) -> bool:
        return (self.from_year is None or self.from_year <= year) and (self.to_year is None or year <= self.to_year)


@dataclass(frozen=True)
class TreeFetch:
    """Pages lie in two trees that belong to somebody else: they are read and left as they are. Label and image are one item.

    Attributes:
        read_scope: where the trees are; None when the settings name none, and so the source is off.
    """

    read_scope: Callable[[Settings], TreeScope | None]


Fetch = LandingFetch | TreeFetch
