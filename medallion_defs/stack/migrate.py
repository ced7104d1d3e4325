"""Bring Medallion's database to the newest schema: the migrations under `migrations/`, run by Alembic.

Then the views that follow from the code and not from a migration: one per labeling task.
"""

from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory

from medallion_defs.core.content import Broken, load_content
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.labeling.labels.views import drop_views, refresh_views, view_name
from medallion_defs.labeling.registry import load_usable_tasks

CONTENT = ("medallion_defs.sources", "medallion_defs.enrichments")


def migrate(root: Path, database_url: str) -> str:
    """Apply every migration that is missing, in one transaction; return the revision that the database has now.

    Safe to call at any time and from several processes at once.
    """
    config = alembic_config(root, database_url)
    newest = newest_revision(config)
    with psycopg.connect(database_url) as connection:
        if _revision(connection) not in (None, newest):
            # A view would keep a migration from changing a table that it reads.
            drop_views(connection)
    command.upgrade(config, "head")
    with psycopg.connect(database_url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('medallion migrate'))")
        broken: list[Broken] = []
        tasks = load_usable_tasks(broken=broken)
        # The view of a task that cannot be used stays as it is: somebody may read it.
        kept = [view_name(each.folder.rpartition("/")[2]) for each in broken]
        refresh_views(connection, [task.spec for task in tasks.values()], kept)
    return newest


def _revision(connection: psycopg.Connection) -> str | None:
    """Return the revision that the database has; None: it is new."""
    if connection.execute("SELECT to_regclass('ops.schema_versions')").fetchone() == (None,):
        return None
    row = connection.execute("SELECT version_num FROM ops.schema_versions").fetchone()
    return str(row[0]) if row else None


def write_migration(root: Path, database_url: str, message: str) -> Path:
    """Write the next migration from what the tables in the code have and the database lacks; return its file.

    Args:
        database_url: a database at the newest revision.
        message: one sentence, such as "Add silver.weather".
    """
    broken: list[Broken] = []
    for package in CONTENT:
        load_content(package, "tables", "TABLE", broken)
    if broken:
        raise ConfigurationError(f"{broken[0].sentence} Without its table the migration would drop what is there.")
    config = alembic_config(root, database_url)
    number = f"{int(newest_revision(config)) + 1:04}"
    script = command.revision(config, message=message, autogenerate=True, rev_id=number)
    assert isinstance(script, Script)
    return Path(script.path)


def alembic_config(root: Path, database_url: str) -> Config:
    """Return Alembic's configuration for the migrations of the project in `root`."""
    config = Config()
    config.set_main_option("script_location", str(root / "migrations"))
    # Alembic reads this through configparser, to which % is special.
    config.set_main_option("sqlalchemy.url", database_url.replace("%", "%%"))
    return config


def newest_revision(config: Config) -> str:
    """Return the newest revision that the code knows."""
    return ScriptDirectory.from_config(config).get_current_head() or "none"
