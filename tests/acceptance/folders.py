"""A data folder for a stack: in memory where the machine has /dev/shm, and open to the account that Postgres runs as."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medallion_defs.stack.databases import embedded_postgres


@contextmanager
def stack_folder() -> Iterator[Path]:
    """Yield a fresh folder; at the end stop what a killed stack left, and remove it."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="medallion-up-", dir=memory if memory.is_dir() else None))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        embedded_postgres(folder / "data").stop()
        shutil.rmtree(folder)
