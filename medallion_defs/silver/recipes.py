"""Recipes: which files a source understands, and how their columns become its input record.

A recipe is a YAML file in `sources/<name>/recipes/`. Here they are read, checked and chosen; expressions.py is
their little language, docs/reference/recipes.md their reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, field_validator, model_validator

from medallion_defs.core.code_version import bare_name, fits
from medallion_defs.core.errors import ConfigurationError, TerminalError, describe_invalid
from medallion_defs.core.unique_keys import UniqueKeyLoader
from medallion_defs.silver.expressions import RECORD_FACTS, Expression, compile_expression
from medallion_defs.silver.numbers import NUMBER_STYLES, NumberStyle
from medallion_defs.silver.text_encoding import encoding_of_label

Format = Literal["csv", "jsonl", "json"]
FORMATS: dict[str, Format] = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
_STRICT = ConfigDict(extra="forbid", frozen=True)
NonEmpty = Annotated[str, Field(min_length=1)]


class NoRecipeError(TerminalError):
    """No recipe of the source is for a file of this name."""


class CsvOptions(BaseModel):
    """How the text of a CSV file is read."""

    model_config = _STRICT

    header: NonEmpty | None = Field(
        None, description="A cell of the header row that no row above it has; what stands above is skipped. Needed, but for csv.columns."
    )
    columns: tuple[NonEmpty, ...] = Field(
        (), description="All columns by their place, instead of the names in the header. Without csv.header the file has no header row."
    )
    delimiter: NonEmpty | None = Field(None, max_length=1, description="One character. Default: that of , ; tab | which finds the header.")
    encoding: str = Field(
        "utf-8", description="A label of the WHATWG encoding standard; or auto: utf-8, and if the file is not, windows-1252 or a guess."
    )
    decimal: Literal["point", "comma"] | None = Field(
        None, description="The decimal sign of numbers. Default: point; in a file delimited by ; that has numbers with a comma, the comma."
    )
    multiline: bool = Field(True, description="false: a quoted cell never contains a line end; a record that does is rejected.")
    trailing_delimiter: bool = Field(False, description="true: records may end in one delimiter more than the header has.")

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, label: str) -> str:
        known = encoding_of_label(label)
        if label != "auto" and (known is None or known.name.startswith("utf-16")):
            raise ValueError(f"'{label}' is not auto, and not a label of the WHATWG encoding standard for text of bytes")
        return label

    @model_validator(mode="after")
    def _check_header(self) -> "CsvOptions":
        if self.header is None and not self.columns:
            raise ValueError("give header, a cell of the header row; or columns, if the file has no header")
        if self.header is None and self.delimiter is None:
            raise ValueError("delimiter is needed where there is no header to find it by")
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("columns: a name stands twice")
        return self


class Computed(BaseModel):
    """A template and filters over the whole of it, for values made of several columns."""

    model_config = _STRICT

    template: NonEmpty
    filters: tuple[NonEmpty, ...]


class Recipe(BaseModel):
    """One recipe. Without `columns` it is canonical: columns or keys are named like the fields of `Input`."""

    model_config = _STRICT

    description: NonEmpty = Field(description="What the file is, where it comes from, and what had to be assumed.")
    files: tuple[NonEmpty, ...] = Field(min_length=1, description="File name patterns (* and ?), upper and lower case alike, without .gz.")
    priority: int = Field(description="The recipe with the smallest number among those that match is taken; no two of a source are equal.")
    domain: NonEmpty
    dataset: NonEmpty
    source: NonEmpty | None = Field(None, description="Default: the name of the content folder.")
    discriminator: NonEmpty | None = None
    ticker: NonEmpty | None = None
    format: Format | None = Field(None, description="Default: by the file's extension.")
    csv: CsvOptions | None = None
    columns: dict[NonEmpty, str | Computed] = Field(default_factory=dict, description="Field of Input: template.")
    attributes: dict[NonEmpty, str | Computed] = Field(default_factory=dict, description="Key in attributes: template.")
    ignore: frozenset[NonEmpty] = Field(default=frozenset(), description="Columns that are left out on purpose.")
    lookups: dict[NonEmpty, dict[str, tuple[NonEmpty, ...]]] = Field(default_factory=dict, description="Table: result: [texts].")

    _name: str = PrivateAttr("")
    _columns: dict[NumberStyle, dict[str, Expression]] = PrivateAttr(default_factory=dict)
    _attributes: dict[NumberStyle, dict[str, Expression]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _compile(self) -> "Recipe":
        if self.attributes and not self.columns:
            raise ValueError("'attributes' needs 'columns': a canonical recipe maps nothing")
        if self.csv is None and "csv" in {self.format or FORMATS.get(PurePosixPath(name).suffix) for name in self.files}:
            raise ValueError("csv: is needed for CSV files; give at least csv.header, a cell of the header row")
        tables = {name: {text: result for result, texts in table.items() for text in texts} for name, table in self.lookups.items()}
        self._columns = {style: _compile_all("columns", self.columns, tables, style) for style in NUMBER_STYLES}
        self._attributes = {style: _compile_all("attributes", self.attributes, tables, style) for style in NUMBER_STYLES}
        if unused := self.ignore & self.used_columns:
            raise ValueError(f"ignore: {', '.join(sorted(unused))} is used in a template as well")
        return self

    @property
    def name(self) -> str:
        """The recipe's file name without `.yaml`."""
        return self._name

    def column_expressions(self, style: NumberStyle) -> Mapping[str, Expression]:
        """Return the templates of `columns`, for a file whose numbers are written in `style`."""
        return self._columns[style]

    def attribute_expressions(self, style: NumberStyle) -> Mapping[str, Expression]:
        """Return the templates of `attributes`, likewise."""
        return self._attributes[style]

    @property
    def used_columns(self) -> frozenset[str]:
        """The columns of the file that templates name."""
        return self._used_names - set(RECORD_FACTS)

    @property
    def used_facts(self) -> frozenset[str]:
        """What templates say of the record itself: its number, its file's name."""
        return self._used_names & set(RECORD_FACTS)

    @property
    def _used_names(self) -> frozenset[str]:
        made = (*self._columns["point"].values(), *self._attributes["point"].values())
        return frozenset[str]().union(*(expression.columns for expression in made))

    def matches(self, filename: str) -> bool:
        """True when a pattern fits the file's bare name."""
        return any(fits(filename, pattern) for pattern in self.files)

    def format_of(self, filename: str) -> Format:
        """Return the format: the recipe's, else the extension's.

        Raises:
            ConfigurationError: the recipe names none and the extension says nothing.
        """
        found = self.format or FORMATS.get(PurePosixPath(bare_name(filename)).suffix)
        if found is None:
            raise ConfigurationError(
                f"{filename}: neither recipe {self.name} nor the extension says a format. Add 'format:' to the recipe."
            )
        return found


@dataclass(frozen=True)
class RecipeBook:
    """The recipes of one source, in the order in which they are asked."""

    source_name: str
    recipes: tuple[Recipe, ...]

    def choose(self, filename: str) -> Recipe:
        """Return the recipe for a file by its name.

        Raises:
            NoRecipeError: none matches.
        """
        for recipe in self.recipes:
            if recipe.matches(filename):
                return recipe
        patterns = "; ".join(f"{recipe.name}: {', '.join(recipe.files)}" for recipe in self.recipes)
        raise NoRecipeError(
            f"{filename}: no recipe of {self.source_name} is for this name ({patterns}). "
            f"Rename the file, or add a recipe to sources/{self.source_name}/recipes/."
        )


def load_recipes(source_name: str, folder: Traversable, input_fields: frozenset[str]) -> RecipeBook:
    """Read and check every recipe of a source.

    Raises:
        ConfigurationError: a recipe does not validate, maps to a field that `Input` lacks, or two share a priority.
    """
    files = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name)
    recipes = sorted((_load_recipe(source_name, entry, input_fields) for entry in files), key=lambda recipe: recipe.priority)
    for first, second in pairwise(recipes):
        if first.priority == second.priority:
            raise ConfigurationError(
                f"{source_name}: recipes {first.name} and {second.name} both have priority {first.priority}; "
                "a file that both match would be ambiguous. Give each its own."
            )
    if not recipes:
        raise ConfigurationError(f"{source_name}: there is no recipe in sources/{source_name}/recipes/. Add one .yaml file.")
    return RecipeBook(source_name, tuple(recipes))


def _load_recipe(source_name: str, entry: Traversable, input_fields: frozenset[str]) -> Recipe:
    where = f"sources/{source_name}/recipes/{entry.name}"
    try:
        recipe = Recipe.model_validate(yaml.load(entry.read_text(encoding="utf-8"), Loader=UniqueKeyLoader))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{where} is not valid YAML: {error}") from error
    except ValidationError as error:
        raise ConfigurationError(f"{where} is not a valid recipe: {describe_invalid(error, 'recipe')}") from error
    mappable = input_fields - {"attributes"}
    if strangers := sorted(set(recipe.columns) - mappable):
        fields = ", ".join(sorted(mappable))
        raise ConfigurationError(f"{where}: columns: Input has no field {', '.join(strangers)}; the fields are {fields}.")
    recipe._name = entry.name.removesuffix(".yaml")
    return recipe.model_copy(update={"source": recipe.source or source_name})


def _compile_all(
    key: str, templates: Mapping[str, str | Computed], lookups: Mapping[str, Mapping[str, str]], style: NumberStyle
) -> dict[str, Expression]:
    made = {}
    for name, given in templates.items():
        try:
            spec = Computed(template=given, filters=()) if isinstance(given, str) else given
            made[name] = compile_expression(spec.template, spec.filters, lookups, style)
        except ValueError as error:
            raise ValueError(f"{key}.{name}: {error}") from error
    return made
