"""How fast bronze publishes small items durably, beside the same writes with no safety and with a sync per file.

One item = 2 files of 2 KB and its `_item.json`; one round = the same number of items by each way, in a random order,
each into a folder of its own. Reported are medians over the rounds and their ratios, and the peak memory.

    group     the store: staged, one syncfs per group, renamed, index lines appended durably
    no-sync   the store, the same writes with every sync left out: group / no-sync is what durability costs
    plain     the same files, renames and index lines in a plain loop, no sync, no lock, no revisions, nothing read-only
    per-item  that plain loop with an fsync of each file, its directory, the parent and the index, per item

Nothing is deleted while it runs, and nothing should be right before: after a mass delete ext4 makes every
new directory many times slower for minutes. Run it on the file system that will hold bronze: `--folder`.
"""

import argparse
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

from medallion_defs.core import clock
from medallion_defs.storage.item import INDEX_FILE, ITEM_FILE, Artifact, BronzeItem, content_sha256, encode_item
from medallion_defs.storage.local.publisher import LocalStore
from medallion_defs.storage.publishing import NewArtifact, NewItem

NAMES = ("events.csv", "notes.csv")


def contents(number: int) -> tuple[bytes, bytes]:
    """Return the two files of an item, different for every item."""
    block = f"{number:015d}\n".encode() * 128
    return block, block[::-1]


def publish_grouped(root: Path, items: int, group_items: int) -> None:
    store = LocalStore(root)
    for start in range(0, items, group_items):
        with store.group("events") as group:
            for number in range(start, min(start + group_items, items)):
                artifacts = [NewArtifact(name, content) for name, content in zip(NAMES, contents(number), strict=True)]
                group.stage(NewItem(f"item-{number}", "x", "benchmark", clock.now(), artifacts))
            group.publish()


def publish_unsynced(root: Path, items: int, group_items: int) -> None:
    """The store with every sync left out. Only a benchmark may do that."""
    with ExitStack() as stack:
        for place in ("local.sync_file_system", "local.sync_file", "index.sync_file", "recovery.sync_file"):
            stack.enter_context(patch(f"medallion_defs.bronze.{place}", lambda _fd: None))
        publish_grouped(root, items, group_items)


def publish_plainly(root: Path, items: int, *, sync: bool) -> None:
    staging, folder = root / ".staging", root / "events"
    staging.mkdir()
    folder.mkdir()
    staging_fd, folder_fd = os.open(staging, os.O_RDONLY), os.open(folder, os.O_RDONLY)
    index_fd = os.open(folder / INDEX_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(items):
        place, name = str(number), f"item-{number}"
        os.mkdir(place, dir_fd=staging_fd)
        artifacts = []
        for file_name, content in zip(NAMES, contents(number), strict=True):
            write_file(f"{place}/{file_name}", content, staging_fd, sync=sync)
            artifacts.append(Artifact(file_name, "text/csv", len(content), sha256(content).hexdigest()))
        line = encode_item(BronzeItem("events", name, 1, name, "x", "benchmark", clock.now(), content_sha256(artifacts), tuple(artifacts)))
        write_file(f"{place}/{ITEM_FILE}", line, staging_fd, sync=sync)
        if sync:
            sync_folder(place, staging_fd)
        os.rename(place, name, src_dir_fd=staging_fd, dst_dir_fd=folder_fd)
        if sync:
            os.fsync(folder_fd)
        os.write(index_fd, line)
        if sync:
            os.fdatasync(index_fd)
    for fd in (index_fd, folder_fd, staging_fd):
        os.close(fd)


def write_file(path: str, data: bytes, folder_fd: int, *, sync: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444, dir_fd=folder_fd)
    os.write(fd, data)
    if sync:
        os.fsync(fd)
    os.close(fd)


def sync_folder(path: str, folder_fd: int) -> None:
    fd = os.open(path, os.O_RDONLY, dir_fd=folder_fd)
    os.fsync(fd)
    os.close(fd)


def measure(publish: Callable[[Path], None], root: Path, items: int) -> float:
    """Return items per second. What earlier ways left dirty is flushed before, not on this one's account."""
    root.mkdir()
    os.sync()
    started = time.perf_counter()
    publish(root)
    return items / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--group", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="bronze-publish-", dir=options.folder))
    ways: dict[str, Callable[[Path], None]] = {
        "group": lambda path: publish_grouped(path, options.items, options.group),
        "no-sync": lambda path: publish_unsynced(path, options.items, options.group),
        "plain": lambda path: publish_plainly(path, options.items, sync=False),
        "per-item": lambda path: publish_plainly(path, options.items, sync=True),
    }
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(options.rounds):
        for name in random.sample(sorted(ways), len(ways)):
            speeds[name].append(measure(ways[name], root / f"{number}-{name}", options.items))
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, values in speeds.items():
        print(f"{name:9} {medians[name]:8,.0f} items/s   ({min(values):,.0f} to {max(values):,.0f})")
    print(f"group / no-sync   {medians['group'] / medians['no-sync']:5.2f}   (goal: 0.8 or more)")
    print(f"group / plain     {medians['group'] / medians['plain']:5.2f}")
    print(f"group / per-item  {medians['group'] / medians['per-item']:5.2f}   (goal: 5 or more)")
    unit = 1024**2 if sys.platform == "darwin" else 1024
    print(f"peak memory       {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit:5.0f} MB")
    print(f"written to {root}; remove it when you do not measure any more")


if __name__ == "__main__":
    main()
