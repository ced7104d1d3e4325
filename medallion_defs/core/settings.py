"""Settings of one process, read once: environment first, then `medallion.yaml`, then the defaults here.

The only module that reads the environment. Nothing here touches the network or the database, so code
locations load without either.
"""

import os
from functools import cache
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import yaml
from pydantic import (
    Field,
    ValidationError,
    WrapValidator,
)
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from medallion_defs.core.access_settings import FolderSettings, LoginSettings, WebSettings
from medallion_defs.core.content import SOURCES, content_names, is_task_key
from medallion_defs.core.errors import ConfigurationError, describe_invalid
from medallion_defs.core.sections import (
    CONFIG_FILE,
    AlertSettings,
    CurricularSettings,
    GenaiSettings,
    GoldSettings,
    InvalidCurricularSettings,
    OpenLineageSettings,
    RetentionSettings,
    SourceSettings,
    TaskSettings,
    VerifySettings,
    invalid_pages,
    missing_folders,
    note_invalid_pages,
    note_invalid_source,
    require_valid_sources,
)
from medallion_defs.core.unique_keys import UniqueKeyLoader


class Settings(BaseSettings):
    """All settings of a process. Environment names are `MEDALLION_` + the field name in upper case."""

    model_config = SettingsConfigDict(env_prefix="MEDALLION_", env_nested_delimiter="__", extra="forbid", frozen=True)

    root: Path = Field(description="The project folder: the nearest one with a medallion.yaml, or MEDALLION_ROOT.")
    data_dir: Path = Field(Path("data"), description="Run-time output; a relative path starts at the project folder.")
    database_url: str | None = Field(
        None, repr=False, description="Postgres of silver, gold and ops (postgresql://…). Empty: the embedded server."
    )
    sources: dict[str, Annotated[SourceSettings, WrapValidator(note_invalid_source)]] = Field(default_factory=dict)
    gold: GoldSettings = GoldSettings()
    retention: RetentionSettings = RetentionSettings()
    verify: VerifySettings = VerifySettings()
    tasks: dict[str, TaskSettings] = Field(default_factory=dict)
    alerts: AlertSettings = AlertSettings()
    openlineage: OpenLineageSettings = OpenLineageSettings()
    genai: GenaiSettings = GenaiSettings()
    web: WebSettings = WebSettings()
    logins: LoginSettings = LoginSettings()
    folders: FolderSettings = FolderSettings()
    curricular: Annotated[CurricularSettings | None, WrapValidator(note_invalid_pages)] = Field(
        None, description="The section of [curricular pages](../curricular-pages.md). Empty: that source is off."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        written = InitSettingsSource(settings_cls, init_kwargs=_read_config(find_root() / CONFIG_FILE))
        return init_settings, env_settings, written

    @property
    def data_path(self) -> Path:
        """`data_dir` as an absolute path."""
        return (self.root / self.data_dir).resolve()

    @property
    def landing_path(self) -> Path:
        return self.data_path / "landing"

    @property
    def bronze_path(self) -> Path:
        return self.data_path / "bronze"

    @property
    def derived_path(self) -> Path:
        """What tasks make of bronze files (frames, audio tracks): can be made again, unlike bronze."""
        return self.data_path / "derived"

    def task(self, task_key: str) -> TaskSettings:
        """Return the settings of one labeling task; the defaults when `medallion.yaml` does not mention it."""
        return self.tasks.get(task_key, TaskSettings())

    def source(self, name: str) -> SourceSettings:
        """Return the settings of one source; the defaults when `medallion.yaml` does not mention it.

        Raises:
            ConfigurationError: those of this source do not validate; the message names each setting.
        """
        found = self.sources.get(name, SourceSettings())
        require_valid_sources({name: found})
        return found

    def curricular_pages(self) -> CurricularSettings | None:
        """Return the section `curricular` with absolute folders; None when there is none, and so the source is off.

        Raises:
            ConfigurationError: it does not validate, or there is no folder of labels or of images.
        """
        if self.curricular is None:
            return None
        pages = self.curricular.below(self.root)
        reason = pages.reason if isinstance(pages, InvalidCurricularSettings) else missing_folders(pages)
        if reason:
            raise invalid_pages(reason)
        return pages

    def curricular_output(self) -> Path | None:
        """Return the folder of success markers; None without a section `curricular`. It need not exist yet.

        Raises:
            ConfigurationError: the section does not validate.
        """
        if isinstance(self.curricular, InvalidCurricularSettings):
            raise invalid_pages(self.curricular.reason)
        return None if self.curricular is None else self.curricular.below(self.root).output_dir

    def require_database_url(self) -> str:
        """Return the database URL for psycopg.

        Raises:
            ConfigurationError: none is set, or it names another driver.
        """
        if not self.database_url:
            raise ConfigurationError("MEDALLION_DATABASE_URL is not set. 'medallion up' sets it for the embedded Postgres; else export it.")
        scheme = urlsplit(self.database_url).scheme
        if scheme not in ("postgresql", "postgres"):
            raise ConfigurationError(f"MEDALLION_DATABASE_URL starts with '{scheme}://'; Medallion's own database needs 'postgresql://'.")
        return self.database_url


def process_environment() -> dict[str, str]:
    """Return a copy of the environment: the start of a child's, and the place of variables that belong to Dagster."""
    return dict(os.environ)


def find_root() -> Path:
    """Return the project folder: `MEDALLION_ROOT`, or the nearest folder above the working one with a medallion.yaml."""
    named = os.environ.get("MEDALLION_ROOT")
    if named:
        return Path(named).resolve()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / CONFIG_FILE).is_file():
            return folder
    raise ConfigurationError(f"No {CONFIG_FILE} in {here} or above it. Run from the project folder, or set MEDALLION_ROOT.")


def load_settings() -> Settings:
    """Read the settings afresh.

    Raises:
        ConfigurationError: a value does not validate; the message names each setting.
    """
    settings = read_settings()
    require_valid_sources(settings.sources)
    _require_known_names(settings)
    settings.curricular_pages()
    return settings


def _require_known_names(settings: Settings) -> None:
    sources = content_names(SOURCES)
    tasks = [*settings.tasks, *settings.genai.max_usd_per_task]
    unknown = [f"sources.{name}: no such source" for name in settings.sources if name not in sources]
    unknown += [f"{name}: no such task" for name in dict.fromkeys(tasks) if not is_task_key(name)]
    if unknown:
        raise ConfigurationError(
            f"{CONFIG_FILE} or the MEDALLION_ environment is not valid: {'; '.join(unknown)}. Sources are: {', '.join(sources)}. "
            "'medallion tasks list' and docs/tasks.md name the tasks."
        )


def _read_config(path: Path) -> dict[str, Any]:
    """Read the configuration file; an absent or empty one says nothing.

    Raises:
        ConfigurationError: it is not a mapping. What yaml and the disk raise is passed on.
    """
    if not path.exists():
        return {}
    content = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    if content is not None and not isinstance(content, dict):
        raise ConfigurationError(f"{path}: a mapping of sections is expected, this is {type(content).__name__}.")
    return content or {}


@cache
def get_settings() -> Settings:
    """Return the settings of this process, read at the first call.

    A source whose settings are wrong does not stop the others: its own fail, with the reason, when they are asked for.

    Raises:
        ConfigurationError: a value outside of `sources.<name>` does not validate, or the file cannot be read.
    """
    return read_settings()


def read_settings() -> Settings:
    """Read the settings afresh, with those of the sources unchecked: what is wrong with one is said when it is asked for.

    Raises:
        ConfigurationError: as `get_settings`.
    """
    try:
        return Settings(root=find_root())
    except ValidationError as error:
        raise ConfigurationError(f"{CONFIG_FILE} or the MEDALLION_ environment is not valid: {describe_invalid(error)}") from error
    except (yaml.YAMLError, OSError, TypeError, ValueError) as error:  # what the readers of YAML and of the environment raise
        raise ConfigurationError(f"{CONFIG_FILE} or the MEDALLION_ environment cannot be read: {error}") from error
