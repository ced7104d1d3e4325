"""Content folders: one per source or enrichment, with fixed file names, found by looking and never registered.

A code location asks for one named module per folder, so that the bronze process never imports a transform and
the silver process never imports a fetcher.
"""

from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from types import ModuleType

SOURCES, TASKS = "medallion_defs.sources", "medallion_defs.tasks"


@dataclass(frozen=True)
class Source:
    """The facts of one source (`source.py`, `SOURCE`): what it is, not how it runs.

    Attributes:
        name: the folder, the bronze source type, the silver table.
        title: one line for a person.
        description: what one record is and where the data come from (Markdown).
        domain: the asset group.
        artifact_type: file stem of the item's one artifact in bronze.
        owners: Dagster owners (`team:…` or an address).
    """

    name: str
    title: str
    description: str
    domain: str
    artifact_type: str
    owners: tuple[str, ...]


def content_names(package: str) -> list[str]:
    """Return the content folders of `package` (`medallion_defs.sources`), sorted."""
    return sorted(entry.name for entry in files(package).iterdir() if entry.is_dir() and not entry.name.startswith(("_", ".")))


def is_task_key(name: str) -> bool:
    """Tell whether a task folder is there for the key: `text.summarize` lies in `text_summarize`."""
    return "." in name and name.replace(".", "_") in content_names(TASKS)


def load_content(package: str, module: str) -> dict[str, ModuleType]:
    """Import `module` of every content folder of `package`; return it by folder name."""
    return {name: import_module(f"{package}.{name}.{module}") for name in content_names(package)}
