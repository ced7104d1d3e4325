"""What a source's `fetch.py` may know of bronze: how its items come in. `FETCH` in that file is a `FetchKind`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import dagster as dg

from medallion_defs.bronze.fetching.fetch_time import FetchTime
from medallion_defs.bronze.fetching.report import FetchReport
from medallion_defs.bronze.fetching.taking import Register
from medallion_defs.core.content import Source
from medallion_defs.core.settings import Settings
from medallion_defs.ops.watch import Look


@dataclass(frozen=True)
class Delivery:
    """One fetch of a source: what a kind of fetch needs to know. `rehash`: everything is read, also what is as it was."""

    settings: Settings
    source: Source
    register: Register
    time: FetchTime
    run_id: str | None = None
    rehash: bool = False


class FetchKind(Protocol):
    """One way in which the items of a source come in. Bronze makes one asset, job and check of each source; the rest is its kind's."""

    @property
    def has_landing_folder(self) -> bool:
        """Whether files are dropped in `data/landing/{source}/`."""
        ...

    def describe(self, source: Source) -> str:
        """Return where the items come from, for a person (Markdown): the end of "…, as they came: "."""
        ...

    def why_off(self, settings: Settings) -> str | None:
        """Return why nothing can be fetched with these settings, as the end of a sentence; None when it can."""
        ...

    def fetch(self, delivery: Delivery) -> FetchReport:
        """Publish what is new, once.

        Raises:
            TransientError, ConfigurationError: what the items come from, bronze or the ledger cannot be read or written.
        """
        ...

    def build_sensor(self, source: Source) -> dg.SensorDefinition:
        """Return the sensor that requests a run of `bronze_{source}` when there is something to fetch."""
        ...

    def build_schedules(self, source: Source) -> Sequence[dg.ScheduleDefinition]:
        """Return the schedules of `bronze_{source}`."""
        ...

    def look(self, settings: Settings, name: str, now: datetime) -> Look:
        """Return whether something waits too long to be fetched: the check `on_time` of the asset."""
        ...


Judge = Callable[[tuple[str, ...]], bool | str]
"""Says of the folder names down to one folder whether it is wanted, or what is wrong with it, as the end of a sentence."""


@dataclass(frozen=True)
class TreeScope:
    """Two trees of the same shape, and which part of them is wanted.

    An item is the label `{labels_path}/{folders}/{number}.json` and the image of that name below `images_path`. Its external id is the
    names of its folders and the number, with `:` between.

    Attributes:
        levels: what a folder of each level is called (`("region", "city")`): as many as there are folders above an item.
        judge: which folders are wanted, at every level.
    """

    labels_path: Path
    images_path: Path
    levels: tuple[str, ...]
    judge: Judge = lambda _names: True


ReadScope = Callable[[Settings], TreeScope | None]
"""Where the trees are; None when the settings name none, and so the source is off."""
