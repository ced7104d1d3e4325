"""Python's garbage collector, kept off what lives as long as the process."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def only_new_garbage() -> Iterator[None]:
    """Let the collector look only at what is made from here on, for a block that makes and drops objects by the million.

    A loaded Dagster is hundreds of thousands of objects, and each full collection walks over all of them: a twentieth of a worker's time.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
