"""Bring Medallion's database to the newest schema: the migrations under `migrations/`, run by Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory


def migrate(root: Path, database_url: str) -> str:
    """Apply every migration that is missing, in one transaction; return the revision that the database has now.

    Safe to call at any time and from several processes at once.
    """
    config = alembic_config(root, database_url)
    command.upgrade(config, "head")
    return newest_revision(config)


def write_migration(root: Path, database_url: str, message: str) -> Path:
    """Write the next migration from what the tables in the code have and the database lacks; return its file.

    Args:
        database_url: a database at the newest revision.
        message: one sentence, such as "Add silver.weather".
    """
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
