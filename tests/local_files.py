"""Files of a test as the storage gives them: opened, hashed, or held in their folder."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

from medallion_defs.storage.hashed import HashedFile
from medallion_defs.storage.local.files import open_hashed


def opener(path: Path) -> Callable[[], AbstractContextManager[HashedFile]]:
    """Return what opens a file that was not published, so that any bytes are right."""
    return partial(open_hashed, path, None)


def folder_of(path: Path) -> Callable[[], AbstractContextManager[Path]]:
    """Return what gives the folder of a file, for a reader that opens it by its path."""

    @contextmanager
    def folder() -> Iterator[Path]:
        yield path.parent

    return folder
