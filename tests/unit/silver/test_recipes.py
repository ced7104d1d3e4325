"""Recipes: every mistake is named with its file and key; the choice is deterministic; filters do what the reference says."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.silver.expressions import FILTER_NAMES, compile_expression
from medallion_defs.silver.recipes import NoRecipeError, RecipeBook, load_recipes
from tests.unit.silver.conftest import Extract

FIELDS = frozenset({"event_id", "latitude", "attributes"})
GOOD = """\
description: a file
files: ["*.csv"]
priority: 1
domain: fleet
dataset: d
csv: {header: Id}
columns:
  event_id: "{Id}"
"""
Load = Callable[..., RecipeBook]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def run(**recipes: str) -> RecipeBook:
        for name, text in recipes.items():
            (tmp_path / f"{name}.yaml").write_text(text, encoding="utf-8")
        return load_recipes("src", tmp_path, FIELDS)

    return run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("priority: 1\n", ""), "priority: Field required"),
        (("priority: 1", "priority: high"), "priority: Input should be a valid integer"),
        (("priority: 1", "priority: 1\nprioritty: 2"), "prioritty: Extra inputs are not permitted"),
        (("priority: 1", "priority: 1\npriority: 2"), "the key 'priority' stands twice"),
        (("{header: Id}", "{header: Id, encoding: utf-16}"), "csv.encoding: 'utf-16' is not auto, and not a label of the WHATWG"),
        (("{header: Id}", "{header: Id, encoding: undefined}"), "csv.encoding: 'undefined' is not auto"),
        (("{header: Id}", "{header: Id, decimal: ','}"), "csv.decimal: Input should be 'point' or 'comma'"),
        (("{header: Id}", "{delimiter: ','}"), "csv: give header, a cell of the header row; or columns"),
        (("{header: Id}", "{columns: [Id]}"), "csv: delimiter is needed where there is no header"),
        (("{header: Id}", "{header: Id, columns: [Id, Id]}"), "csv: columns: a name stands twice"),
        (('"{Id}"', '"{@line}"'), "columns.event_id: {@line} is not known; of the record itself there are {@record}, {@filename}"),
        (('"{Id}"', '"{Id|number:,}"'), "columns.event_id: 'number:,' is no filter"),
        (("{header: Id}", "{header: Id, delimiter: ',,'}"), "csv.delimiter: String should have at most 1 character"),
        (("csv: {header: Id}\n", ""), "recipe: csv: is needed for CSV files"),
        (('["*.csv"]', "[]"), "files: Tuple should have at least 1 item"),
        (("event_id:", "event_ident:"), "columns: Input has no field event_ident; the fields are event_id, latitude"),
        (("event_id:", "attributes:"), "columns: Input has no field attributes"),
        (('"{Id}"', '"{Id|capitalise}"'), "columns.event_id: 'capitalise' is no filter"),
        (('"{Id}"', '"{Id|date}"'), "columns.event_id: 'date' is no filter, lacks its argument"),
        (('"{Id}"', '"{Id|upper:x}"'), "columns.event_id: 'upper:x' is no filter"),
        (('"{Id}"', '"{Id|lookup:zone}"'), "columns.event_id: 'lookup:zone' is no filter"),
        (('"{Id}"', '"{Id|datetime:%Y}"'), "datetime:%Y names no time zone; write datetime:%Y@UTC"),
        (('"{Id}"', '"{Id|datetime:%Y@Mars/Olympus}"'), "'Mars/Olympus' is no time zone"),
        (('"{Id}"', '"{Id|match:(}"'), "match:( is not a regular expression"),
        (('"{Id}"', '"{Id"'), "'{Id' has a brace without its pair"),
        (('"{Id}"', '{template: "{Id}"}'), "columns.event_id"),
        (("columns:", "ignore: [Id]\ncolumns:"), "ignore: Id is used in a template as well"),
        (('columns:\n  event_id: "{Id}"', 'attributes:\n  a: "{Id}"'), "'attributes' needs 'columns'"),
        ((GOOD, "- a list"), "recipe: Input should be a valid dictionary"),
        ((GOOD, "a: [b"), "is not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(load: Load, change: tuple[str, str], message: str) -> None:
    text = GOOD.replace(*change)
    assert text != GOOD
    with pytest.raises(ConfigurationError) as caught:
        load(mine=text)
    assert "sources/src/recipes/mine.yaml" in str(caught.value)
    assert message in str(caught.value)


def test_recipes_are_asked_by_priority_and_equal_priorities_are_an_error(load: Load) -> None:
    special = GOOD.replace("*.csv", "Special_*.csv").replace("priority: 1", "priority: 0")
    book = load(a_general=GOOD, special=special)
    assert book.choose("special_1.CSV").name == "special"
    assert book.choose("folder/SPECIAL_2.csv.gz").name == "special"
    assert book.choose("other.csv").name == "a_general"
    with pytest.raises(ConfigurationError, match="a_general and third both have priority 1"):
        load(third=GOOD)


def test_a_name_without_a_recipe_is_told_what_names_there_are(load: Load) -> None:
    with pytest.raises(NoRecipeError, match=r"report\.pdf: no recipe of src is for this name \(only: \*\.csv\)\. Rename the file, or add"):
        load(only=GOOD).choose("report.pdf")


def test_a_source_without_recipes_says_so(load: Load) -> None:
    with pytest.raises(ConfigurationError, match="there is no recipe in sources/src/recipes"):
        load()


def test_the_ledger_facts_are_the_recipes_and_the_source_defaults_to_the_folder(load: Load) -> None:
    recipe = load(r=GOOD + "ticker: ABC\ndiscriminator: nyc\n").choose("x.csv")
    assert (recipe.domain, recipe.source, recipe.dataset, recipe.discriminator, recipe.ticker) == ("fleet", "src", "d", "nyc", "ABC")


LOOKUPS = {"country": {"Ohio": "United States"}}


@pytest.mark.parametrize(
    ("template", "cell", "value"),
    [
        ("{c}", "as it is ", "as it is "),
        ("{c|strip}", " a ", "a"),
        ("{c|strip}", "  ", None),
        ("{c|upper}", "aé", "AÉ"),
        ("{c|lower}", "AÉ", "aé"),
        ("{c|snake}", " Unsafe tail-distance! ", "unsafe_tail_distance"),
        ("{c|integer}", " 1,137 ", 1137),
        ("{c|integer}", " -   ", None),
        ("{c|integer}", "-5", -5),
        ("{c|number}", "1,137.25", 1137.25),
        ("{c|number}", "-", None),
        ("{c|date:%m/%d/%Y}", "1/2/2015", "2015-01-02"),
        ("{c|datetime:%m/%d/%Y@America/New_York}", "07/01/2015", datetime(2015, 7, 1, 4, tzinfo=UTC)),
        ("{c|datetime:%m/%d/%Y@America/New_York}", "01/01/2015", datetime(2015, 1, 1, 5, tzinfo=UTC)),
        ("{c|timestamp}", "2026-01-01T00:00:00Z", datetime(2026, 1, 1, tzinfo=UTC)),
        ("{c|json}", '{"a":1}', {"a": 1}),
        ("{c|before:,}", "Columbus, Ohio", "Columbus"),
        ("{c|before:,}", "Columbus", "Columbus"),
        ("{c|after_last:,}", "Warmley, Bristol, United Kingdom", "United Kingdom"),
        ("{c|after_last:,|lookup:country}", "Columbus, Ohio", "United States"),
        ("{c|lookup:country}", "Ireland", "Ireland"),
        ("{c|null_if:none|upper}", "none", None),
        ("{c|match:\\d\\d\\d\\d|integer}", "founded 1902 (1888)", 1902),
        ("{c|match:\\d\\d\\d\\d}", "long ago", None),
        ("id:{c|strip}:{c|integer}", " 7 ", "id:7:7"),
        ("id:{c|integer}", "-", None),
        ("id:{other}", "x", None),
        ("constant", "x", "constant"),
        ("{c|number:comma}", "-0,118", -0.118),
        ("{c|number:comma}", "1.137,5", 1137.5),
        ("{c|integer:comma}", "1.137", 1137),
        ("{c|number:point}", "1,137.5", 1137.5),
        ("{c|strip|default:none}", "  ", "none"),
        ("{c|default:none|upper}", "a", "A"),
        ("{other|default:7|integer}", "x", 7),
        ("{c|date:%d.%m.%Y or %Y-%m-%d}", "31.01.2026", "2026-01-31"),
        ("{c|date:%d.%m.%Y or %Y-%m-%d}", "2026-01-31", "2026-01-31"),
        ("{c|date:%d/%m/%Y or %m/%d/%Y}", "02/02/2026", "2026-02-02"),
        ("{c|datetime:%d.%m.%Y %H:%M or %Y-%m-%d %H:%M@Europe/Berlin}", "2026-01-31 12:00", datetime(2026, 1, 31, 11, tzinfo=UTC)),
        ("{c|datetime:%Y-%m-%d %H:%M%z@UTC}", "2026-01-31 12:00+0200", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("{c|datetime:%Y-%m-%d %H:%M@Europe/Berlin}", "2026-03-29 01:59", datetime(2026, 3, 29, 0, 59, tzinfo=UTC)),
        ("{c|datetime:%Y-%m-%d %H:%M@Europe/Berlin}", "2026-03-29 03:00", datetime(2026, 3, 29, 1, tzinfo=UTC)),
        ("{c|datetime:%Y-%m-%d %H:%M@Europe/Berlin}", "2026-10-25 03:00", datetime(2026, 10, 25, 2, tzinfo=UTC)),
        ("{c|datetime:%Y-%m-%d@America/Sao_Paulo}", "2018-11-04", datetime(2018, 11, 4, 3, tzinfo=UTC)),
        ("{c|datetime:%Y-%m-%d@America/Havana}", "2026-11-01", datetime(2026, 11, 1, 4, tzinfo=UTC)),
    ],
)
def test_a_template_makes_of_a_cell(template: str, cell: str, value: object) -> None:
    made = compile_expression(template, (), LOOKUPS).evaluate({"c": cell})
    assert made == value
    assert type(made) is type(value)


@pytest.mark.parametrize(
    ("template", "cell"),
    [
        ("{c|integer}", "12x"), ("{c|integer}", "1,13"), ("{c|integer}", "9" * 50), ("{c|integer}", "1.5"), ("{c|number}", "nan"),
        ("{c|date:%m/%d/%Y}", "13/13/2015"), ("{c|datetime:%Y@UTC}", "soon"), ("{c|json}", "[1]"), ("{c|upper}", True), ("{c|upper}", [1]),
        ("{c|datetime:%Y-%m-%d %H@America/New_York}", "9999-12-31 23"), ("{c|number}", "0,250"), ("{c|integer}", "0,123"),
        ("{c|number:comma}", "1,137.5"), ("{c|integer:comma}", "0.123"), ("{c|number:comma}", "12.5"), ("{c|number}", "1e-400"),
        ("{c|date:%d/%m/%Y or %m/%d/%Y}", "01/02/2026"), ("{c|date:%d.%m.%Y or %Y-%m-%d}", "1/2/26"),
    ],
)  # fmt: skip
def test_what_a_filter_cannot_read_is_an_error_that_quotes_it(template: str, cell: object) -> None:
    with pytest.raises(ValueError, match=r".+"):
        compile_expression(template).evaluate({"c": cell})


@pytest.mark.parametrize(("text", "why"), [("2026-03-29 02:30", "does not exist"), ("2026-10-25 02:30", "exists twice")])
def test_a_local_time_that_the_clocks_skip_or_repeat_is_an_error(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"the local time {text}:00 {why} in Europe/Berlin"):
        compile_expression("{c|datetime:%Y-%m-%d %H:%M@Europe/Berlin}").evaluate({"c": text})


KEYLESS = """\
description: lines without a key
files: ["*"]
priority: 1
domain: fleet
dataset: d
csv: {columns: [name, day], delimiter: ","}
columns:
  event_id: "{@filename}:{@record}"
  driver_id: "{name|strip|default:unknown}"
"""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b"Ann,1\nAnn,1\n ,1\n"),
        ("x.jsonl", b'{"name":"Ann"}\n{"name":"Ann"}\n{"day":1}'),
        ("x.json", b'[{"name":"Ann"},{"name":"Ann"},{}]'),
    ],
)
def test_equal_lines_of_a_file_without_a_key_are_several_records(extract: Extract, name: str, content: bytes) -> None:
    got = extract(name, content, recipe=KEYLESS)
    assert [row[1:3] for row in got.rows] == [(f"{name}:1", "Ann"), (f"{name}:2", "Ann"), (f"{name}:3", "unknown")]


SWAPPED = """\
description: lines with the canonical names for other things
files: ["*"]
priority: 1
domain: fleet
dataset: d
columns:
  event_id: "{driver_id}"
  driver_id: "{event_id}"
"""


def test_a_recipe_with_columns_decides_also_where_the_records_have_the_canonical_names(extract: Extract) -> None:
    lines = "".join(f'{{"event_id":"a{number}","driver_id":"b{number}"}}\n' for number in range(4))
    got = extract("swapped.jsonl", lines.encode(), recipe=SWAPPED)
    assert [row[1:3] for row in got.rows] == [(f"b{number}", f"a{number}") for number in range(4)]


def test_a_reject_names_the_empty_column_behind_a_key_template(extract: Extract) -> None:
    content = b"Base Number,Base Name,Pick Up Date,Number of Trips,Number of Vehicles\nB1,One, ,1,1\n"
    got = extract("fhv_dispatch_2015.csv", content)
    assert got.codes == [(2, "missing_key")]
    assert got.rejects[0].message == "event_id is missing or blank. In this record nothing is in: Pick Up Date."


def test_filters_over_a_whole_template_join_columns_first() -> None:
    made = compile_expression("{day}:{time}", ("datetime:%Y-%m-%d-%H:%M:%S.%f@UTC",))
    assert made.evaluate({"day": "2016-05-27-22", "time": "59:21.4"}) == datetime(2016, 5, 27, 22, 59, 21, 400_000, tzinfo=UTC)
    assert made.evaluate({"day": "2016-05-27-22"}) is None


def test_every_filter_and_every_recipe_key_is_in_the_reference() -> None:
    from medallion_defs.silver.recipes import CsvOptions, Recipe

    page = (Path(__file__).parents[3] / "docs/reference/recipes.md").read_text(encoding="utf-8")
    names = [*FILTER_NAMES, *Recipe.model_fields, *(f"csv.{key}" for key in CsvOptions.model_fields)]
    assert [name for name in names if f"`{name}" not in page] == []
