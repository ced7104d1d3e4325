"""Variants of a source's transform: which there are, what each is made of, and which one silver uses.

`sources/<name>/transform.py` is variant `a`. Each file `sources/<name>/variants/<variant>.py` is one more: a module with a
`transform` and the `Input` it takes (or `read_file`, where the source has that), as pure as the first. Facts, table and recipes are
the same for all. What is done with a variant beside silver is in `experiments.py`; which one silver uses is a setting,
`sources.<name>.variant`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from types import ModuleType

from sqlalchemy import Table

from medallion_defs.core.code_version import CodeVersions
from medallion_defs.core.content import Broken, Source, leaving_out
from medallion_defs.core.errors import ConfigurationError
from medallion_defs.silver.contract import FileFacts
from medallion_defs.silver.extract import Parser, Row
from medallion_defs.silver.file_parser import FileParser, recipe_for_all
from medallion_defs.silver.load_run import SilverContent
from medallion_defs.silver.recipes import load_recipes

DEFAULT_VARIANT = "a"
_FOLDER = "variants"
# Part of table names: short, and no "_" that could be taken for the two between source and variant.
_NAME = re.compile(r"[a-z][a-z0-9]{0,15}")


@dataclass(frozen=True)
class VariantContent(SilverContent):
    """A source as one of its variants sees it.

    Attributes:
        variant: its name; `a` is `transform.py`.
        title: the first line of the module's docstring.
    """

    variant: str
    title: str


@dataclass(frozen=True)
class MisconfiguredContent(SilverContent):
    """A source that cannot be worked on. Whatever would asks for the code versions first, in the sensor, a run or a command."""

    why: str

    @cached_property
    def code(self) -> CodeVersions:
        raise ConfigurationError(self.why)

    @classmethod
    def of(cls, source: Source, table: Table, why: str) -> "MisconfiguredContent":
        """Return a source whose transform or recipes cannot be used."""

        def refuse(_path: Path, _item: FileFacts) -> Row:
            raise ConfigurationError(why)

        return cls(source, table, FileParser(source.name, refuse, (), recipe_for_all(source)), why)


def variant_names(source_name: str, package: str = "medallion_defs.sources") -> list[str]:
    """Return the variants of a source, `a` first, the others sorted.

    Raises:
        ConfigurationError: a file in `variants/` has a name that cannot be a variant's.
    """
    folder = files(f"{package}.{source_name}") / _FOLDER
    found = [entry.name.removesuffix(".py") for entry in folder.iterdir() if entry.name.endswith(".py")] if folder.is_dir() else []
    names = sorted(set(found) - {"__init__"})
    if wrong := [name for name in names if not _NAME.fullmatch(name) or name == DEFAULT_VARIANT]:
        raise ConfigurationError(
            f"sources/{source_name}/variants/{wrong[0]}.py: a variant's name is a letter and up to 15 letters or digits, in lower case, "
            f"and not '{DEFAULT_VARIANT}', which is transform.py. Rename the file."
        )
    return [DEFAULT_VARIANT, *names]


def load_variants(
    default: SilverContent, package: str = "medallion_defs.sources", broken: list[Broken] | None = None
) -> dict[str, VariantContent]:
    """Import all variants of a source; return them by name. `default` is the source with `transform.py`.

    A variant that cannot be used (it raises, it lacks what `transform.py` has, or its `Input` lacks a field that a recipe fills) is
    left out and added to `broken`, or logged.

    Raises:
        ConfigurationError: a file in `variants/` has a name that cannot be a variant's.
    """
    found: dict[str, VariantContent] = {}
    for name in variant_names(default.source.name, package):
        with leaving_out(package, f"{default.source.name}/{_FOLDER}/{name}.py", broken):
            found[name] = _load_variant(default, name, package)
    return found


def choose_variant(variants: Mapping[str, VariantContent], variant: str) -> SilverContent:
    """Return the source with the variant that the setting `sources.<name>.variant` names.

    Of a name that is none, a source comes back that refuses to work, with a sentence that says why: a code location that does not
    load would take every other source with it.
    """
    try:
        return find_variant(variants, variant)
    except ConfigurationError as error:
        default = variants[DEFAULT_VARIANT]
        why = f"sources.{default.source.name}.variant: {error} Correct medallion.yaml, then restart."
        return MisconfiguredContent(default.source, default.table, default.parser, why)


def find_variant(variants: Mapping[str, VariantContent], variant: str) -> VariantContent:
    """Return one of a source's variants by name.

    Raises:
        ConfigurationError: there is no such variant.
    """
    if variant not in variants:
        source_name = variants[DEFAULT_VARIANT].source.name
        raise ConfigurationError(f"There is no variant '{variant}' of {source_name}. There is: {', '.join(variants)}.")
    return variants[variant]


def _load_variant(default: SilverContent, name: str, package: str) -> VariantContent:
    source_name = default.source.name
    folder = f"{package}.{source_name}"
    module = import_module(f"{folder}.transform" if name == DEFAULT_VARIANT else f"{folder}.{_FOLDER}.{name}")
    title = (module.__doc__ or "").strip().partition("\n")[0]
    parser = default.parser if name == DEFAULT_VARIANT else _variant_parser(default.parser, module, folder)
    return VariantContent(default.source, default.table, parser, name, title)


def _variant_parser(default: Parser | FileParser, module: ModuleType, folder: str) -> Parser | FileParser:
    required = ("read_file",) if isinstance(default, FileParser) else ("Input", "transform")
    if missing := [name for name in required if not hasattr(module, name)]:
        raise ConfigurationError(f"{module.__name__} has no {' and no '.join(missing)}. A variant has what transform.py has.")
    if isinstance(default, FileParser):
        return replace(default, read_file=module.read_file, libraries=tuple(getattr(module, "LIBRARIES", default.libraries)))
    recipes = default.recipes
    if module.Input is not default.input_type:
        recipes = load_recipes(default.source_name, files(folder) / "recipes", frozenset(module.Input.__struct_fields__))
    return replace(default, input_type=module.Input, transform=module.transform, recipes=recipes)
