"""Cut a reserved batch that is too large for the provider in two: the same requests, tokens and dollars, in two files and two batches.

Nothing is asked anew and no record fails. The lines keep their item tokens, so nothing but the names of the batches changes.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medallion_defs.core import clock
from medallion_defs.genai.requests import outbox_path, write_requests
from medallion_defs.genai.state import BatchState, GenaiBatch, Half


def cut_in_two(state: BatchState, data_path: Path, batch: GenaiBatch, why: str) -> list[str]:
    """Put two reserved batches in the place of one; return their ids. A crash before the end leaves the one, and files to sweep."""
    path = outbox_path(data_path, batch.batch_id)
    with path.open(encoding="utf-8") as file:
        keys = [json.loads(line)["key"] for line in file]
    middle = len(keys) // 2
    halves = [_write(data_path, batch, path, number, part) for number, part in enumerate((keys[:middle], keys[middle:]), start=1)]
    names = [half.batch_id for half in halves]
    state.cut(batch, halves, f"cut in two ({', '.join(names)}): {why}", clock.now())
    shutil.rmtree(path.parent)
    return names


def _write(data_path: Path, batch: GenaiBatch, whole: Path, number: int, keys: Sequence[str]) -> Half:
    batch_id = f"{batch.batch_id}.{number}"
    written = write_requests(outbox_path(data_path, batch_id), _lines_of(whole, frozenset(keys)))
    return Half(batch_id, written.fingerprint, keys)


def _lines_of(path: Path, keys: frozenset[str]) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for text in file:
            line: dict[str, Any] = json.loads(text)
            if line["key"] in keys:
                yield line
