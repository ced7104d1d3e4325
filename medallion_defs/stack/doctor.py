"""`medallion doctor`: looks at the machine and the settings, changes nothing, and says what to do about each problem."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg

from medallion_defs.core import db
from medallion_defs.core.content import Broken, content_names
from medallion_defs.core.errors import MedallionError
from medallion_defs.core.sections import GenaiSettings
from medallion_defs.core.settings import Settings, process_environment
from medallion_defs.silver.partitions import too_many_items
from medallion_defs.stack.contents import find_broken
from medallion_defs.stack.databases import check_urls, embedded_postgres
from medallion_defs.stack.doctor_access import check_logins, judge_folder
from medallion_defs.stack.finding import Finding
from medallion_defs.stack.health import is_port_free
from medallion_defs.stack.lock import lock_holder
from medallion_defs.stack.postgres import binaries, describe_account
from medallion_defs.stack.supervisor import LEAST_FREE_BYTES

_SPARSE_BYTES = 2 * 1024**3
_OLDEST_PYTHON, _FIRST_UNKNOWN_PYTHON = (3, 11), (3, 15)


def examine(settings: Settings, port: int) -> list[Finding]:
    """Return the findings of every check, in the order in which `medallion up` would meet them."""
    checks: list[Callable[[], Finding]] = [
        _check_python,
        lambda: _check_project(settings.root),
        lambda: _check_data_folder(settings.data_path),
        lambda: _check_disk(settings.data_path),
        lambda: _check_lock(settings.data_path),
        lambda: _check_port(settings.data_path, port),
        lambda: _check_database(settings),
        lambda: check_logins(settings),
        lambda: _check_landing(settings),
        lambda: judge_content(find_broken(settings)),
        lambda: _check_parallelism(settings),
        lambda: judge_gemini(settings.genai),
        lambda: judge_pages(settings),
    ]
    return [check() for check in checks]


def judge_python(version: tuple[int, int]) -> Finding:
    """Tell whether this Python is one that Medallion is tested with."""
    name = f"{version[0]}.{version[1]}"
    if _OLDEST_PYTHON <= version < _FIRST_UNKNOWN_PYTHON:
        return Finding("Python", "ok", name)
    return Finding("Python", "problem", f"{name}; Medallion needs 3.11 to 3.14", "Run 'make clean', then 'make demo PYTHON=python3.13'.")


def judge_disk(free_bytes: int, folder: Path) -> Finding:
    """Tell whether `free_bytes` are enough to start, and to work."""
    detail = f"{free_bytes / 1024**3:.1f} GB free for {folder}"
    if free_bytes < LEAST_FREE_BYTES:
        return Finding("disk", "problem", detail, "Free some space, or set MEDALLION_DATA_DIR to a folder on another disk.")
    if free_bytes < _SPARSE_BYTES:
        return Finding("disk", "warning", detail, "Enough to start; raw files and two indexed copies of their rows need more.")
    return Finding("disk", "ok", detail)


def judge_gemini(settings: GenaiSettings) -> Finding:
    """Tell whether tasks that ask a model would be answered, and by whom. Never shows the key."""
    has_key = settings.api_key is not None and bool(settings.api_key.get_secret_value().strip())
    if settings.names_emulator:
        remedy = "For real labels, unset genai.base_url and set MEDALLION_GENAI__API_KEY."
        return Finding("Gemini", "warning", f"the emulator at {settings.base_url} answers: all answers are made up", remedy)
    if has_key:
        return Finding("Gemini", "ok", f"a key is set; at most {settings.max_usd_per_day} USD a day")
    remedy = "Set MEDALLION_GENAI__API_KEY, or name the emulator: see docs/gemini.md."
    return Finding("Gemini", "warning", "no key: tasks that ask a model wait, everything else runs", remedy)


def judge_pages(settings: Settings) -> Finding:
    """Tell whether the states that are asked for have a folder."""
    pages = settings.curricular_pages()
    if pages is None:
        return Finding("pages", "ok", "there is no section curricular: the source curricular_pages is off")
    missing = pages.states_without_folder()
    if missing:
        detail = f"curricular.states: there is no folder {', '.join(missing)} in {pages.labels_dir}"
        remedy = "Spell the state like its folder, or put its labels there; until then nothing is taken from it."
        return Finding("pages", "warning", detail, remedy)
    return Finding("pages", "ok", f"labels from {pages.labels_dir}")


def judge_content(broken: Sequence[Broken]) -> Finding:
    """Tell whether the folders of sources, enrichments and tasks can be used."""
    if not broken:
        return Finding("content", "ok", "every source, enrichment and task can be used")
    return Finding("content", "problem", " ".join(f"{each.folder}: {each.why}" for each in broken), "Correct it, then restart Medallion.")


def _check_python() -> Finding:
    return judge_python((sys.version_info.major, sys.version_info.minor))


def _check_project(root: Path) -> Finding:
    missing = [name for name in ("medallion.yaml", "dagster.yaml", "migrations/env.py") if not (root / name).is_file()]
    if missing:
        return Finding("project", "problem", f"{root} has no {', '.join(missing)}", "Run from the project folder, or set MEDALLION_ROOT.")
    return Finding("project", "ok", str(root))


def _check_data_folder(folder: Path) -> Finding:
    existing = _nearest(folder)
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding("data folder", "problem", f"{existing} cannot be written", "Change its owner, or set MEDALLION_DATA_DIR.")
    return judge_folder(folder, folder.stat().st_mode) if folder.exists() else Finding("data folder", "ok", str(folder))


def _check_disk(folder: Path) -> Finding:
    return judge_disk(shutil.disk_usage(_nearest(folder)).free, folder)


def _check_lock(data_path: Path) -> Finding:
    holder = lock_holder(data_path)
    return Finding("lock", "ok", f"Medallion runs here ({holder})" if holder else "nothing runs on this data folder")


def _check_port(data_path: Path, port: int) -> Finding:
    if is_port_free(port):
        return Finding("port", "ok", f"{port} is free")
    if lock_holder(data_path):
        return Finding("port", "ok", f"{port} is taken, and Medallion runs")
    return Finding("port", "problem", f"{port} is taken by another program", "Choose another: medallion up --port 3001")


def _check_database(settings: Settings) -> Finding:
    try:
        dagster_url = check_urls(settings, process_environment())
        if dagster_url is None:
            return _check_embedded(settings)
        for url in (settings.require_database_url(), dagster_url.replace("postgresql+psycopg2", "postgresql", 1)):
            psycopg.connect(url, connect_timeout=10).close()
    except (MedallionError, psycopg.OperationalError) as error:
        return Finding("Postgres", "problem", str(error).strip(), "Correct the URL or start that server; unset both for the embedded one.")
    return Finding("Postgres", "ok", "the servers in MEDALLION_DATABASE_URL and DAGSTER_PG_URL answer")


def _check_embedded(settings: Settings) -> Finding:
    program = binaries() / "postgres"
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    if version.returncode:
        detail = f"{program} does not run here: {version.stderr.strip()}"
        return Finding("Postgres", "problem", detail, "Set MEDALLION_DATABASE_URL and DAGSTER_PG_URL to a server of your own.")
    server = embedded_postgres(settings.data_path)
    running = f"running (process {server.pid()})" if server.pid() else "not running"
    return Finding("Postgres", "ok", f"embedded, {version.stdout.strip()}, {describe_account(server.folder)}, {running}")


def _check_landing(settings: Settings) -> Finding:
    from medallion_defs.bronze.assets import landing_names  # loads Dagster: half a second

    known = landing_names()
    present = {entry.name for entry in settings.landing_path.iterdir() if entry.is_dir()} if settings.landing_path.is_dir() else set()
    unreadable = [name for name in known if name in present and not os.access(settings.landing_path / name, os.R_OK | os.X_OK)]
    if unreadable:
        return Finding(
            "landing", "problem", f"cannot read {', '.join(unreadable)} in {settings.landing_path}", "Change their owner or mode."
        )
    # An empty one may be of a source that came in that way before.
    strange = sorted(name for name in present - set(known) if not name.startswith(".") and any((settings.landing_path / name).iterdir()))
    if strange:
        remedy = f"Sources are: {', '.join(known)}. Rename the folder, or add a source of this name."
        return Finding("landing", "warning", f"no source takes files from {', '.join(strange)} in {settings.landing_path}", remedy)
    missing = [name for name in known if name not in present]
    note = f"; made at the next start: {', '.join(missing)}" if missing else ""
    return Finding("landing", "ok", f"{settings.landing_path}{note}")


def _check_parallelism(settings: Settings) -> Finding:
    singly = [name for name in content_names("medallion_defs.sources") if settings.source(name).parallelism == "item"]
    if not singly:
        return Finding("parallelism", "ok", "every source in microbatches")
    detail = f"one run an item: {', '.join(singly)}"
    embedded = None if settings.database_url else embedded_postgres(settings.data_path)
    if embedded and not embedded.pid():
        return Finding("parallelism", "ok", f"{detail} (items are not counted while Postgres does not run)")
    reached = settings.model_copy(update={"database_url": embedded.url()}) if embedded else settings
    try:
        with db.connect(reached, "medallion_console") as connection:
            wrong = [found for name in singly if (found := too_many_items(connection, name))]
    except (MedallionError, psycopg.Error) as error:
        return Finding("parallelism", "warning", f"{detail}; the items cannot be counted: {error}", "See what is said of Postgres.")
    if wrong:
        return Finding("parallelism", "problem", " ".join(what for what, _ in wrong), " ".join(remedy for _, remedy in wrong))
    return Finding("parallelism", "ok", detail)


def _nearest(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())
