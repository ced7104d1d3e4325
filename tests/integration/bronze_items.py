"""Bronze items for tests of the ledger and of discovery: values, and a tiny writer of what a publisher leaves on disk."""

from datetime import UTC, datetime
from pathlib import Path

from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.storage.item import INDEX_FILE, ITEM_FILE, STAGING_FOLDER, Artifact, BronzeItem, encode_item

SOURCE = "driver_events"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def make_item(name: str, *, source_type: str = SOURCE, revision: int = 1, size: int = 10, fetched_at: datetime = NOON) -> BronzeItem:
    return BronzeItem(
        source_type=source_type,
        external_id=name,
        revision=revision,
        directory=name if revision == 1 else f"{name}@{revision}",
        filename=name,
        origin=f"landing/{source_type}/{name}",
        fetched_at=fetched_at,
        content_sha256="0" * 64,
        artifacts=(Artifact("events.csv", "text/csv", size, "0" * 64),),
    )


def make_row(name: str, at: datetime = NOON, *, source_type: str = SOURCE, size: int = 10, revision: int = 1) -> DatasetIngestion:
    return DatasetIngestion.published(make_item(name, source_type=source_type, size=size, revision=revision), at)


def publish(root: Path, item: BronzeItem) -> Path:
    """Stage the item, rename it into place and append its index line."""
    folder = stage(root, item)
    return publish_staged(root, item, folder)


def stage(root: Path, item: BronzeItem) -> Path:
    folder = root / STAGING_FOLDER / item.source_type / item.directory
    folder.mkdir(parents=True)
    (folder / ITEM_FILE).write_bytes(encode_item(item))
    return folder


def publish_staged(root: Path, item: BronzeItem, folder: Path) -> Path:
    final = rename_into_place(root, item, folder)
    append_to_index(root, item)
    return final


def rename_into_place(root: Path, item: BronzeItem, folder: Path) -> Path:
    final = root / item.path
    final.parent.mkdir(parents=True, exist_ok=True)
    return folder.rename(final)


def append_to_index(root: Path, item: BronzeItem) -> None:
    with (root / item.source_type / INDEX_FILE).open("ab") as index:
        index.write(encode_item(item))
