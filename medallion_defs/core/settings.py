"""Settings of one process, read once: environment first, then `medallion.yaml`, then the defaults here.

The only module that reads the environment. Nothing here touches the network or the database, so code
locations load without either.
"""

import os
from functools import cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ByteSize, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from medallion_defs.core.errors import ConfigurationError

CONFIG_FILE = "medallion.yaml"

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


class LandingSettings(BaseModel):
    """How files are taken from `data/landing/{source}/`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    after: Literal["move", "leave"] = Field("move", description="What happens to a published file: moved to landing/.taken, or left.")
    done_marker: bool = Field(False, description="Take `x` only when `x.done` stands beside it; for writers that pause.")
    settle_seconds: float = Field(1.0, ge=0, description="Without a marker, a file is complete when size and mtime rest this long.")


class SourceSettings(BaseModel):
    """How one source runs. Every field can be set under `sources.<name>` in `medallion.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    landing: LandingSettings = LandingSettings()
    discovery: Literal["auto", "scan", "index"] = Field(
        "auto", description="How new items are found; auto takes the index at 100,000 items."
    )
    max_items: Count = Field(500, description="Most items in one microbatch.")
    max_bytes: ByteSize = Field(ByteSize(256 * 1024**2), description="Most bytes in one microbatch (one larger item still goes alone).")
    max_in_flight: Count = Field(2, description="Most microbatches of the source claimed at a time, those of backfills apart.")
    max_attempts: Count = Field(3, description="Tries per item and code version before it is dead.")
    retry_seconds: float = Field(30.0, ge=0, description="Wait before the first retry; doubles with each further one.")
    max_rejected_share: Share = Field(0.5, description="An item with a larger share of rejected records is refused whole.")
    warn_rejected_share: Share = Field(0.01, description="The asset check warns above this share of rejected records.")
    warn_flagged_share: Share = Field(0.2, description="The asset check warns above this share of flagged rows.")


class GoldSettings(BaseModel):
    """How gold enrichments run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_rows: Count = Field(500_000, description="Most silver rows in one gold run.")
    retry_seconds: float = Field(30.0, ge=0, description="Wait after a run that failed; doubles with each further one, up to an hour.")
    max_unmatched_share: Share = Field(0.2, description="The asset check fails above this share of events whose company is unknown.")


class Settings(BaseSettings):
    """All settings of a process. Environment names are `MEDALLION_` + the field name in upper case."""

    model_config = SettingsConfigDict(env_prefix="MEDALLION_", extra="forbid", frozen=True)

    root: Path = Field(description="The project folder: where medallion.yaml is.")
    data_dir: Path = Field(Path("data"), description="Run-time output; a relative path starts at the project folder.")
    database_url: str | None = Field(None, description="Postgres of silver, gold and ops (postgresql://…). Empty: the embedded server.")
    sources: dict[str, SourceSettings] = Field(default_factory=dict)
    gold: GoldSettings = GoldSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=find_root() / CONFIG_FILE)

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

    def source(self, name: str) -> SourceSettings:
        """Return the settings of one source; the defaults when `medallion.yaml` does not mention it."""
        return self.sources.get(name, SourceSettings())

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
    try:
        return Settings(root=find_root())
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigurationError(f"{CONFIG_FILE} or the MEDALLION_ environment is not valid: {wrong}") from error


@cache
def get_settings() -> Settings:
    """Return the settings of this process, read at the first call."""
    return load_settings()
