"""Sections of the settings that say who may reach what: the names of the web page, the logins of Postgres, the modes of folders."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator

from medallion_defs.core.sections import Section


def _require_postgres(url: SecretStr) -> SecretStr:
    # The message must not show the value: a password is in it.
    if urlsplit(url.get_secret_value()).scheme not in ("postgresql", "postgres"):
        raise ValueError("the URL of a login starts with postgresql://")
    return url


LoginUrl = Annotated[SecretStr, AfterValidator(_require_postgres)]


class WebSettings(Section):
    """Under which names the Dagster page is reached."""

    hosts: tuple[str, ...] = Field(
        (), description="Host names of the page besides those of this machine (localhost), as of a proxy in front of it: `[page.example]`."
    )

    @field_validator("hosts")
    @classmethod
    def _require_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not host or any(mark in host for mark in "/:*@, "):
                raise ValueError(f"{host!r} is not a host name; write it without scheme, port and wildcard, such as page.example")
        return hosts


class LoginSettings(Section):
    """The URL of each role's own login at a Postgres of your own, with its password: best in the environment, as
    MEDALLION_LOGINS__BRONZE. A role without one is taken by the login of `database_url`. The embedded server makes all of them itself."""

    bronze: LoginUrl | None = Field(None, description="Of the location bronze: writes `ops`.")
    silver: LoginUrl | None = Field(None, description="Of the location silver: writes `silver`, `silver_experiments`, `ops`.")
    gold: LoginUrl | None = Field(None, description="Of the location gold: writes `gold`, `ops`, `silver.tasks_*`.")
    console: LoginUrl | None = Field(None, description="Reads everything: reports, and what a location reads of other layers.")
    sql: LoginUrl | None = Field(None, description="For questions of people in SQL: reads everything, in read-only transactions.")
    review: LoginUrl | None = Field(None, description="Reads everything, and writes the verdicts of people.")

    def of(self, role: str) -> str | None:
        """Return the URL of the login of a role such as `medallion_bronze`; None where there is none."""
        url = getattr(self, role.removeprefix("medallion_"), None)
        return url.get_secret_value() if isinstance(url, SecretStr) else None


class FolderSettings(Section):
    """Who besides the owner may enter folders below `data_dir`. All others are the owner's only."""

    landing_mode: str = Field(
        "0700", pattern="^[0-7]{4}$", description="Mode of `landing` and its folders, such as `2770` for a group that delivers files."
    )
