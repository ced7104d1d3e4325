"""Writes `docs/reference/cli.md` and `docs/reference/settings.md` from the code, so that they cannot lie.

python -m medallion_defs.cli.reference --write
"""

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from medallion_defs.cli.main import app
from medallion_defs.core.sections import (
    AlertSettings,
    CurricularSettings,
    GoldSettings,
    LandingSettings,
    OpenLineageSettings,
    RetentionSettings,
    SourceRetention,
    SourceSettings,
    TaskSettings,
)
from medallion_defs.core.settings import Settings, find_root
from medallion_defs.core.timing import format_duration

_HEAD = "<!-- Written by `python -m medallion_defs.cli.reference --write`; change the code, not this page. -->\n"


def cli_page() -> str:
    """Return the page of all commands with their arguments and options."""
    parts = [_HEAD, "# Command line\n", "Every command answers `--help`. A failure is one sentence on stderr and exit code 1.\n"]
    parts.extend(_command_parts("medallion", typer.main.get_command(app)))
    return "\n".join(parts)


def settings_page() -> str:
    """Return the page of all settings with their defaults."""
    parts = [
        _HEAD,
        "# Settings\n",
        "Read from the environment first, then from `medallion.yaml`, then the defaults here. Two more variables are not Medallion's own: "
        "`DAGSTER_PG_URL` (Dagster's database) and `DAGSTER_HOME`; see [operations](../operations.md).\n",
    ]
    parts.extend(_table("At the top of `medallion.yaml`, or `MEDALLION_<NAME>` in the environment", Settings))
    parts.extend(_table("`sources.<name>`", SourceSettings))
    parts.extend(_table("`sources.<name>.landing`", LandingSettings))
    parts.extend(_table("`sources.<name>.retention`", SourceRetention))
    parts.extend(_table("`gold`", GoldSettings))
    parts.extend(_table("`alerts`, or `MEDALLION_ALERTS__<NAME>` in the environment", AlertSettings))
    parts.extend(_table("`retention`", RetentionSettings))
    parts.extend(_table("`tasks.<task_key>`", TaskSettings))
    parts.extend(_table("`curricular`", CurricularSettings))
    parts.extend(_table("`openlineage`", OpenLineageSettings))
    return "\n".join(parts)


PAGES = {"cli.md": cli_page, "settings.md": settings_page}


def _command_parts(name: str, command: Any) -> Iterator[str]:
    if hasattr(command, "commands"):
        for child in command.commands.values():
            yield from _command_parts(f"{name} {child.name}", child)
        return
    yield f"## `{name}`\n"
    yield f"{command.help}\n"
    rows = [
        (_usage(parameter), getattr(parameter, "help", "") or "")
        for parameter in command.params
        if not {"--help", "--install-completion", "--show-completion"} & set(parameter.opts)
    ]
    if rows:
        yield "| argument | what |\n|---|---|"
        yield "\n".join(f"| `{usage}` | {text} |" for usage, text in rows) + "\n"


def _usage(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"<{parameter.name}>" if parameter.required else f"[{parameter.name}]"
    return ", ".join(parameter.opts)


def _table(title: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| setting | default | what |\n|---|---|---|"
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel) or (field.default_factory is not None):
            continue
        default = "(found)" if field.default is PydanticUndefined else f"`{_show(field.default)}`"
        yield f"| `{name}` | {default} | {field.description or ''} |"
    yield ""


def _show(default: object) -> str:
    return format_duration(default) if isinstance(default, timedelta) else str(default)


def main() -> None:
    """Write the pages, or without `--write` print them."""
    folder: Path = find_root() / "docs" / "reference"
    for name, page in PAGES.items():
        if "--write" in sys.argv[1:]:
            (folder / name).write_text(page(), encoding="utf-8")
        else:
            typer.echo(page())


if __name__ == "__main__":
    main()
