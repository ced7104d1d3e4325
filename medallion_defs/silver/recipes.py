"""Recipes: which files a source understands, and how their columns become its input record.

A recipe is a YAML file in `sources/<name>/recipes/`. Here they are read, checked and chosen; expressions.py is
their little language, docs/reference/recipes.md their reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.resources.abc import Traversable
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from medallion_defs.core.errors import ConfigurationError, TerminalError, describe_invalid
from medallion_defs.core.unique_keys import UniqueKeyLoader
from medallion_defs.silver.expressions import Expression, compile_expression

Format = Literal["csv", "jsonl", "json"]
_FORMATS: dict[str, Format] = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
_STRICT = ConfigDict(extra="forbid", frozen=True)
NonEmpty = Annotated[str, Field(min_length=1)]


class NoRecipeError(TerminalError):
    """No recipe of the source is for a file of this name."""


class CsvOptions(BaseModel):
    """How the text of a CSV file is read."""

    model_config = _STRICT

    header: NonEmpty = Field(description="A cell of the header row that no row above it has; what stands above is skipped.")
    delimiter: NonEmpty | None = Field(None, max_length=1, description="One character. Default: that of , ; tab | which finds the header.")
    encoding: Literal["utf-8", "latin-1", "auto"] = Field(
        "utf-8", description="auto: utf-8 if the whole file is valid UTF-8, else latin-1."
    )


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
    _columns: dict[str, Expression] = PrivateAttr(default_factory=dict)
    _attributes: dict[str, Expression] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _compile(self) -> "Recipe":
        if self.attributes and not self.columns:
            raise ValueError("'attributes' needs 'columns': a canonical recipe maps nothing")
        if self.csv is None and "csv" in {self.format or _FORMATS.get(PurePosixPath(name).suffix) for name in self.files}:
            raise ValueError("csv: is needed for CSV files; give at least csv.header, a cell of the header row")
        tables = {name: {text: result for result, texts in table.items() for text in texts} for name, table in self.lookups.items()}
        self._columns = _compile_all("columns", self.columns, tables)
        self._attributes = _compile_all("attributes", self.attributes, tables)
        if unused := self.ignore & self.used_columns:
            raise ValueError(f"ignore: {', '.join(sorted(unused))} is used in a template as well")
        return self

    @property
    def name(self) -> str:
        """The recipe's file name without `.yaml`."""
        return self._name

    @property
    def column_expressions(self) -> Mapping[str, Expression]:
        return self._columns

    @property
    def attribute_expressions(self) -> Mapping[str, Expression]:
        return self._attributes

    @property
    def used_columns(self) -> frozenset[str]:
        """The columns of the file that templates name."""
        return frozenset[str]().union(*(made.columns for made in (*self._columns.values(), *self._attributes.values())))

    def matches(self, filename: str) -> bool:
        """True when a pattern fits the file's bare name."""
        bare = bare_name(filename)
        return any(fnmatchcase(bare, pattern.lower()) for pattern in self.files)

    def format_of(self, filename: str) -> Format:
        """Return the format: the recipe's, else the extension's.

        Raises:
            ConfigurationError: the recipe names none and the extension says nothing.
        """
        found = self.format or _FORMATS.get(PurePosixPath(bare_name(filename)).suffix)
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


def _compile_all(key: str, templates: Mapping[str, str | Computed], lookups: Mapping[str, Mapping[str, str]]) -> dict[str, Expression]:
    made = {}
    for name, given in templates.items():
        try:
            spec = Computed(template=given, filters=()) if isinstance(given, str) else given
            made[name] = compile_expression(spec.template, spec.filters, lookups)
        except ValueError as error:
            raise ValueError(f"{key}.{name}: {error}") from error
    return made


def bare_name(filename: str) -> str:
    """Return the file's name without folders and `.gz`, in lower case."""
    return PurePosixPath(filename).name.lower().removesuffix(".gz")
