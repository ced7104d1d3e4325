"""What one fetch did, whatever the kind of fetch: counts, and the first names of each kind."""

from dataclasses import dataclass, field
from typing import Any, Literal

import dagster as dg

from medallion_defs.core import markdown
from medallion_defs.core.markdown import Markdown
from medallion_defs.core.timing import stage_timing
from medallion_defs.ops.manifest import as_metadata
from medallion_defs.storage.item import BronzeItem

LISTED = 200

Left = Literal["refused", "waiting", "removed"]


@dataclass(frozen=True, slots=True)
class LeftFile:
    """Something that was not taken, by its name, and why.

    `kind`: refused (stays until a person acts), waiting (changed just now; the next fetch looks again), removed (bronze had the bytes
    until a policy removed them).
    """

    name: str
    reason: str
    kind: Left = "refused"


@dataclass
class FetchReport:
    """Counts, and the first 200 of each kind.

    Attributes:
        published: new items and new revisions, in order of publication.
        unchanged: what bronze had already, with these bytes.
        refused, waiting, removed: see `LeftFile`.
        read: files, or pages, whose bytes were read.
        moved: files that left the landing folder.
        bytes: of the published items.
        seconds: of the whole fetch.
    """

    published: int = 0
    unchanged: int = 0
    refused: int = 0
    waiting: int = 0
    removed: int = 0
    read: int = 0
    moved: int = 0
    bytes: int = 0
    seconds: float = 0.0
    items: list[BronzeItem] = field(default_factory=list)
    same: list[BronzeItem] = field(default_factory=list)
    left: dict[Left, list[LeftFile]] = field(default_factory=lambda: {"refused": [], "waiting": [], "removed": []})

    def add_item(self, item: BronzeItem, *, is_new: bool) -> None:
        """Count an item that was published, or that was there already."""
        if is_new:
            self.published, self.bytes = self.published + 1, self.bytes + item.bytes
        else:
            self.unchanged += 1
        listed = self.items if is_new else self.same
        if len(listed) < LISTED:
            listed.append(item)

    def add_left(self, left: LeftFile) -> None:
        """Count something that was not taken."""
        setattr(self, left.kind, getattr(self, left.kind) + 1)
        if len(self.left[left.kind]) < LISTED:
            self.left[left.kind].append(left)


def describe(report: FetchReport) -> dict[str, dg.MetadataValue[Any]]:
    """Return the metadata of one fetch."""
    return as_metadata(
        {
            "items_published": report.published,
            "items_unchanged": report.unchanged,
            "items_read": report.read,
            "files_removed_before": report.removed,
            "files_refused": report.refused,
            "files_waiting": report.waiting,
            "bytes": report.bytes,
            **stage_timing(report.seconds, items=report.published, bytes=report.bytes),
        },
        published=markdown.table(
            ["external id", "item", "bytes", "sha256"],
            [(item.external_id, item.path, item.bytes, item.content_sha256[:16]) for item in report.items],
        ),
        unchanged=markdown.table(["external id", "same bytes as"], [(item.external_id, item.path) for item in report.same]),
        removed_before=_reasons(report, "removed"),
        refused=_reasons(report, "refused"),
        waiting=_reasons(report, "waiting"),
    )


def _reasons(report: FetchReport, kind: Left) -> Markdown:
    return markdown.table(["name", "why"], [(left.name, left.reason) for left in report.left[kind]])
