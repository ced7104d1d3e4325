"""Content folders: one per source, enrichment or task, with fixed file names, found by looking and never registered.

A code location asks for one named module per folder, so that the bronze process never imports a transform and
the silver process never imports a fetcher. A folder that cannot be used is left out, and told: it takes no other with it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from types import ModuleType

from medallion_defs.core.errors import ConfigurationError, MedallionError, describe_unexpected

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Broken:
    """A content folder that cannot be used as it is. `folder`: such as `sources/articles`; `why`: what is wrong, and where."""

    folder: str
    why: str

    @property
    def sentence(self) -> str:
        return f"{self.folder} is left out: {self.why} Correct it, then restart Medallion; everything else works on."


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


def load_content(package: str, module: str, needs: str = "", broken: list[Broken] | None = None) -> dict[str, ModuleType]:
    """Import `module` of every content folder of `package`; return it by folder name.

    Args:
        needs: a name that the module must have (`SOURCE`, `TABLE`).
        broken: folders whose module cannot be used are added to it; without it they are logged.
    """
    found: dict[str, ModuleType] = {}
    for name in content_names(package):
        with leaving_out(package, name, broken):
            found[name] = import_content(package, name, module, needs)
    return found


def import_content(package: str, name: str, module: str, needs: str = "") -> ModuleType:
    """Import `module` of one content folder. What its code raises is raised here.

    Raises:
        ConfigurationError: the folder has no such module, or the module lacks `needs`.
    """
    full_name = f"{package}.{name}.{module}"
    try:
        found = import_module(full_name)
    except ModuleNotFoundError as error:
        if error.name != full_name:
            raise
        raise ConfigurationError(f"The folder {_folder(package, name)} has no {module}.py.") from error
    if needs and not hasattr(found, needs):
        raise ConfigurationError(f"{_folder(package, name)}/{module}.py has no {needs}.")
    return found


@contextmanager
def leaving_out(package: str, name: str, broken: list[Broken] | None = None) -> Iterator[None]:
    """Note whatever the block raises as the fault of one content folder, in `broken` or in the log."""
    try:
        yield
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the code of a content folder may raise anything when it is imported
        found = Broken(_folder(package, name), explain_content_error(error))
        if broken is None:
            _LOG.error("%s", found.sentence, extra={"source": name})
        elif found not in broken:
            broken.append(found)


def explain_content_error(error: BaseException) -> str:
    """Return what is wrong with a content folder, as the end of a sentence."""
    if isinstance(error, MedallionError):
        return " ".join(str(error).split())
    # Of an error of syntax the traceback has only who imported; its text has file and line.
    text = f"{type(error).__name__}: {error}" if isinstance(error, SyntaxError) else describe_unexpected(error)
    return f"{' '.join(text.split())}."


def _folder(package: str, name: str) -> str:
    return f"{package.rpartition('.')[2]}/{name}"


def recipe_names(package: str, source: str) -> list[str]:
    """Return the file names of a source's recipes, sorted; none of a source whose files are read whole. Imports nothing of it."""
    folder = files(package) / source / "recipes"
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".yaml")) if folder.is_dir() else []
