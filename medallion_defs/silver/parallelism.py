"""How the items of a source become work: one small interface, chosen by the setting `sources.<name>.parallelism`.

A further kind is one module with a class like those here and one line in `choose_parallelism`. Which kind is for what is
in docs/parallelism.md.
"""

from typing import Protocol

import dagster as dg

from medallion_defs.core.sections import ParallelismKind
from medallion_defs.ops.hand_out import HandOut, Tick, request_for, waiting_batches
from medallion_defs.silver.partitions import ItemPartitions


class Parallelism(Protocol):
    """What the silver asset and the sensor of a source ask about its kind of parallelism."""

    @property
    def partitions(self) -> dg.DynamicPartitionsDefinition | None:
        """The partitions of the asset, if it has any."""

    @property
    def pool(self) -> str | None:
        """The Dagster pool that holds the asset's runs back, if any."""

    @property
    def on_materialize(self) -> str:
        """What *Materialize* on the page does, in Markdown."""

    def hand_out(self, tick: Tick) -> HandOut:
        """Claim open items and turn what waits into work. Must stand being called twice, or beside itself."""


class Microbatches:
    """The default: many items a run, one run of the source at a time."""

    def __init__(self, name: str) -> None:
        self.partitions = None
        self.pool = f"silver_{name}"
        self.on_materialize = (
            "Materialize loads what is pending; `scope: all | since | dataset | file_ids | outdated` loads history again, in chunks."
        )

    def hand_out(self, tick: Tick) -> HandOut:
        return HandOut([request_for(tick, batch) for batch in waiting_batches(tick, tick.options)], [])


def choose_parallelism(kind: ParallelismKind, name: str) -> Parallelism:
    """Return what the setting `parallelism` of the source `name` stands for."""
    return ItemPartitions(name) if kind == "item" else Microbatches(name)
