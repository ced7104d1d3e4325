"""Folders for tests: in memory where the machine has /dev/shm, and removable whatever was made in them.

In memory because creating and deleting thousands of small files is what tests do, and what ext4 is slow at.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medallion_defs.stack.databases import embedded_postgres
from medallion_defs.stack.postgres import EmbeddedPostgres


@contextmanager
def fresh_folder() -> Iterator[Path]:
    """Yield an empty folder that the account of the embedded Postgres may enter; remove it at the end."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="medallion-tests-", dir=memory if memory.is_dir() else None))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        make_removable(folder)
        shutil.rmtree(folder)


@contextmanager
def fresh_server() -> Iterator[EmbeddedPostgres]:
    """Yield an embedded server of its own, not started; stop and remove it at the end."""
    with fresh_folder() as folder:
        server = EmbeddedPostgres(folder / "postgres")
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def stack_folder() -> Iterator[Path]:
    """Yield a folder for a stack (`data/` in it); at the end stop the Postgres that a killed stack left."""
    with fresh_folder() as folder:
        try:
            yield folder
        finally:
            embedded_postgres(folder / "data").stop()


def make_removable(root: Path) -> None:
    """Undo what the store does to its folders, so that an ordinary user can delete them."""
    for folder, _, _ in os.walk(root):
        # Postgres's own folders may belong to another account, and are none of the store's.
        if Path(folder).stat().st_uid == os.geteuid() and not os.access(folder, os.W_OK):
            Path(folder).chmod(0o755)
