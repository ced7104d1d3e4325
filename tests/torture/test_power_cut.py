"""The power goes while a publisher works: nothing that it acknowledged is lost, and nothing that is visible is half there.

A small ext4 on a loop device is shut down without its journal being flushed (`EXT4_IOC_SHUTDOWN`), unmounted, and mounted
again, which replays the journal as after a power cut. What the file system had not handed to the disk is gone. The publisher
is this file run as a script. A publisher whose syncs do nothing shows that the harness sees a loss.
"""

import fcntl
import os
import random
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from medallion_defs.core.errors import TransientError
from medallion_defs.storage.local import index, publisher
from medallion_defs.storage.local.publisher import LocalStore
from tests.folders import fresh_folder
from tests.torture.test_storage_crash import assert_whole, item, read_index

ROOT = Path(__file__).resolve().parents[2]
EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2
DISK_BYTES = 64 * 1024**2
GROUP_ITEMS, MOST_GROUPS = 20, 500


class SmallDisk:
    """An ext4 file system in a file, mounted at `mount`."""

    def __init__(self, folder: Path) -> None:
        self.image, self.mount = folder / "image", folder / "disk"
        self.mount.mkdir()
        with self.image.open("wb") as file:
            file.truncate(DISK_BYTES)
        _run("mkfs.ext4", "-q", "-F", str(self.image))
        self.attach()

    def attach(self) -> None:
        _run("mount", "-o", "loop", str(self.image), str(self.mount))

    def detach(self) -> None:
        _run("umount", str(self.mount))

    def cut_power(self) -> None:
        """Drop what is not on the disk yet; every later write fails."""
        fd = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)

    def restart(self) -> None:
        self.detach()
        self.attach()


def _run(*command: str) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"PATH": path})
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


@pytest.fixture
def disk() -> Iterator[SmallDisk]:
    with fresh_folder() as folder:
        try:
            small = SmallDisk(folder)
        except OSError as error:
            pytest.skip(f"NO POWER CUT TRIED: it needs root, loop devices and mkfs.ext4 ({error})")
        yield small
        small.detach()


def publish_until_cut(root: Path, *, without_sync: bool) -> None:
    """Publish group after group, and name each item on standard output once it is published."""
    if without_sync:
        publisher.sync_file_system = publisher.sync_file = index.sync_file = lambda fd: None
    with suppress(TransientError):
        for number in range(MOST_GROUPS):
            with LocalStore(root / "bronze").group("events") as group:
                for place in range(GROUP_ITEMS):
                    group.stage(item(f"i{number}-{place}", b"x" * (place * 300 + 1), number))
                for publication in group.publish():
                    sys.stdout.write(f"{publication.item.directory}\n")
            sys.stdout.flush()


def cut_while_publishing(disk: SmallDisk, after_items: int, *options: str) -> set[str]:
    """Cut the power once the publisher has acknowledged so many items; return all that it acknowledged."""
    command = [sys.executable, "-m", "tests.torture.test_power_cut", str(disk.mount), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as publisher:
        assert publisher.stdout is not None
        acknowledged = {publisher.stdout.readline().strip() for _ in range(after_items)}
        disk.cut_power()
        acknowledged |= {line.strip() for line in publisher.stdout}
        publisher.wait(60)
    disk.restart()
    return acknowledged


def check(disk: SmallDisk, acknowledged: set[str]) -> None:
    assert_whole(disk.mount)
    lost = acknowledged - {each.directory for each in read_index(disk.mount)}
    assert not lost, f"{len(lost)} acknowledged items are lost"
    store = LocalStore(disk.mount / "bronze")
    with store.group("events") as group:  # the next publisher finishes or removes what the dead one left
        group.stage(item("after", b"after", 9_000))
        group.publish()
    assert_whole(disk.mount)
    assert list(store.verify("events")) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_power_cut_loses_nothing_acknowledged_and_leaves_nothing_half_there(disk: SmallDisk, seed: int) -> None:
    after_items = random.Random(seed).randrange(1, 8 * GROUP_ITEMS)
    check(disk, cut_while_publishing(disk, after_items))


def test_the_harness_sees_a_publisher_that_does_not_sync(disk: SmallDisk) -> None:
    acknowledged = cut_while_publishing(disk, 5 * GROUP_ITEMS, "without_sync")
    with pytest.raises((AssertionError, OSError)):
        check(disk, acknowledged)


if __name__ == "__main__":
    publish_until_cut(Path(sys.argv[1]), without_sync="without_sync" in sys.argv)
