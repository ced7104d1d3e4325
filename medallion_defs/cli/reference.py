"""Writes `docs/reference/cli.md` and `docs/reference/settings.md` from the code, so that they cannot lie.

python -m medallion_defs.cli.reference --write
"""

import inspect
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from medallion_defs.cli.main import app
from medallion_defs.core.settings import Settings, find_root
from medallion_defs.core.timing import format_duration

_HEAD = "<!-- Written by `python -m medallion_defs.cli.reference --write`; change the code, not this page. -->\n"


def cli_page() -> str:
    """Return the page of all commands with their arguments and options."""
    parts = [_HEAD, "# Command line\n", "Every command answers `--help`. A failure is one sentence on stderr and exit code 1.\n"]
    parts.extend(_command_parts("medallion", typer.main.get_command(app)))
    return "\n".join(parts)


def settings_page() -> str:
    """Return the page of all settings with their defaults: every section that `Settings` has."""
    parts = [
        _HEAD,
        "# Settings\n",
        "Read from the environment first, then from `medallion.yaml`, then the defaults here. In the environment a setting is "
        "`MEDALLION_` and its path in upper case, with `__` between the parts: `genai.max_usd_per_day` is "
        "`MEDALLION_GENAI__MAX_USD_PER_DAY`. A value that makes no sense is refused when it is read, with a sentence that names it. "
        "Two more variables are not Medallion's own: `DAGSTER_PG_URL` (Dagster's database) and `DAGSTER_HOME`; see "
        "[operations](../operations.md).\n",
    ]
    parts.extend(_table("At the top", Settings))
    for path, section in _sections_of(Settings):
        parts.extend(_table(f"`{path}`", section))
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


def _sections_of(model: type[BaseModel], above: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Yield every section below `model` with its path, such as `sources.<name>.landing` or `genai.prices[]`."""
    for name, field in model.model_fields.items():
        found = _section_in(field.annotation)
        if found is not None:
            path = f"{above}{name}{found[0]}"
            yield path, found[1]
            yield from _sections_of(found[1], f"{path}.")


def _section_in(annotation: Any) -> tuple[str, type[BaseModel]] | None:
    """Return the section that a field holds, and how its path goes on: one by name, one of a list, or itself."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "", annotation
    suffix = {dict: ".<name>", list: "[]"}.get(get_origin(annotation), "")
    held = [found for part in get_args(annotation) if (found := _section_in(part))]
    return (suffix + held[0][0], held[0][1]) if held else None


def _table(title: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## {title}\n"
    yield f"{inspect.cleandoc(model.__doc__ or '')}\n"
    yield "| setting | default | what |\n|---|---|---|"
    for name, field in model.model_fields.items():
        if _section_in(field.annotation) is None:
            yield f"| `{name}` | {_default_of(field)} | {field.description or ''} |"
    yield ""


def _default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    return f"`{format_duration(default) if isinstance(default, timedelta) else default}`"


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
