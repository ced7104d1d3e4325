"""Sections of the settings that say who may reach what: the names of the web page, and the modes of folders."""

from pydantic import BaseModel, ConfigDict, Field, field_validator


class WebSettings(BaseModel):
    """Under which names the Dagster page is reached."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
