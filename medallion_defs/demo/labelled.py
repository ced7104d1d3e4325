"""The demo's last wave: pages, a picture, a sound and an article, which tasks label; and what must come of them.

Whatever is asked of a model is answered by the local emulator, even where a key is set: a demo spends nothing. Its labels are
made up; what is real is the way there.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from pathlib import Path

import psycopg

from medallion_defs.core.settings import Settings
from medallion_defs.core.sql import load_queries
from medallion_defs.demo.pages import PageTree, write_page_tree
from medallion_defs.genai.emulator import running
from medallion_defs.genai.emulator_jobs import Provider

FOLDER = "labelled"
_SQL = load_queries("medallion_defs.demo", "labelled.sql")
_FILES = (("media", "flag.png"), ("media", "tone.wav"), ("articles", "bridge.html"))
_TASKS_OF_FILES = ("audio.probe", "image.caption", "image.thumbnail_phash", "text.statistics", "text.summarize")
_SCHOOLS, _YEARS, _PAGES_PER_YEAR = ("Lincoln", "Jefferson High"), (1957, 1987), 6


@dataclass(frozen=True)
class Labels:
    """What there is by now.

    Attributes:
        results: by task.
        markers: answers that are files in the folder of success markers.
        in_gold: rows in `gold.media_labels`.
        batches, usd: asked of the model, and what that would cost.
    """

    results: Mapping[str, int]
    markers: int
    in_gold: int
    batches: int
    usd: Decimal


@contextmanager
def emulated(settings: Settings) -> Iterator[dict[str, str]]:
    """Serve the emulator; give the environment of a stack that asks it, and that finds the demo's pages."""
    tree = page_folders(settings)
    with running(Provider()) as url:
        yield {
            "MEDALLION_GENAI__BASE_URL": url,
            "MEDALLION_GENAI__POLL_SECONDS": "2",
            "MEDALLION_CURRICULAR__LABELS_DIR": str(tree.labels_dir),
            "MEDALLION_CURRICULAR__IMAGES_DIR": str(tree.images_dir),
            "MEDALLION_CURRICULAR__OUTPUT_DIR": str(tree.output_dir),
        }


def page_folders(settings: Settings) -> PageTree:
    """Make the folders of the demo's pages, empty."""
    root = settings.data_path / "demo"
    tree = PageTree(root / "label_to_curricular", root / "images", root / "output_results")
    for folder in (tree.labels_dir, tree.images_dir, tree.output_dir):
        folder.mkdir(parents=True, exist_ok=True)
    return tree


def drop_labelled(settings: Settings) -> PageTree:
    """Write the pages, and put the files into landing that bronze does not have."""
    for source, name in _FILES:
        path = settings.landing_path / source / FOLDER / name
        if not (settings.bronze_path / source / f"{FOLDER}%2F{name}").exists():
            _copy(files("medallion_defs.sources").joinpath(source, "samples", name).read_bytes(), path)
    root = settings.data_path / "demo"
    return write_page_tree(root, schools=_SCHOOLS, years=_YEARS, pages_per_year=_PAGES_PER_YEAR, dirt=False)


def expected_results(tree: PageTree) -> dict[str, int]:
    """Return how many results each task must have."""
    return {"page.curricular": len(tree.pages), **dict.fromkeys(_TASKS_OF_FILES, 1)}


def read_labels(connection: psycopg.Connection, tree: PageTree) -> Labels:
    """Read what became of the wave; other data in the same project are left out."""
    params = {"prefix": f"{FOLDER}/%", "pages": list(tree.pages)}
    with connection.transaction():
        results: dict[str, int] = dict(connection.execute(_SQL["results"], params).fetchall())
        [(in_gold,)] = connection.execute(_SQL["in_gold"], params).fetchall()
        [(batches, usd)] = connection.execute(_SQL["batches"], params).fetchall()
    markers = sum(tree.marker_path(key).exists() for key in tree.pages)
    return Labels(results, markers, in_gold, batches, usd)


def missing_labels(labels: Labels, tree: PageTree) -> list[str]:
    """Return one sentence per count that is not there yet, or that is too many."""
    wanted = expected_results(tree)
    wrong = [
        f"results of {task_key}: expected {number}, found {labels.results.get(task_key, 0)}"
        for task_key, number in wanted.items()
        if labels.results.get(task_key, 0) != number
    ]
    if labels.markers != len(tree.pages):
        wrong.append(f"success markers: expected {len(tree.pages)}, found {labels.markers}")
    if labels.in_gold != sum(wanted.values()):
        wrong.append(f"rows in gold.media_labels: expected {sum(wanted.values())}, found {labels.in_gold}")
    return wrong


def _copy(content: bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    growing = path.with_name(path.name + ".part")
    growing.write_bytes(content)
    growing.rename(path)
