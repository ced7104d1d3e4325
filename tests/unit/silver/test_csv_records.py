"""CSV as people deliver it. The canonical companies recipe reads it, unless a test brings its own."""

import pytest

from medallion_defs.core.errors import ConfigurationError
from medallion_defs.silver.contract import EXCERPT_BYTES
from medallion_defs.silver.reader import UnexpectedFormatError
from tests.unit.silver.conftest import Extract

HEADER = b"company_id,name,city\n"


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"], ids=["LF", "CR", "CRLF"])
def test_all_line_ends_give_the_same_rows_and_line_numbers(extract: Extract, end: bytes) -> None:
    content = end.join([b"company_id,name,city", b"A,One,Rome", b"", b'B,"Two', b'lines",Oslo', b",,", b"C,Three,Kiel"])
    got = extract("c.csv", content, "companies")
    assert got.keys == [(2, "A"), (4, "B"), (7, "C")]
    assert got.rows[1][2] == f"Two{end.decode()}lines"
    assert not got.rejects


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_by_the_header(extract: Extract, delimiter: str) -> None:
    text = f"company_id{delimiter}name\nA{delimiter}One\n"
    assert extract("c.csv", text.encode(), "companies").rows[0][1:3] == ("A", "One")


def test_a_preamble_a_mark_and_blank_lines_before_the_header_are_skipped(extract: Extract) -> None:
    content = b'\xef\xbb\xbfsep=,\r\nReport "of" today,,\r\n\r\n,,\r\n company_id , name ,\r\nA,One,\r\n'
    assert extract("c.csv", content, "companies").keys == [(6, "A")]


def test_without_its_header_a_file_is_refused_with_what_was_expected(extract: Extract) -> None:
    for content in (b"A,One\n" * 5, b"\n" * 2000 + HEADER):
        with pytest.raises(UnexpectedFormatError, match=r"c\.csv: no row .* has the cell 'company_id'"):
            extract("c.csv", content, "companies")


def test_a_header_that_names_a_column_twice_is_refused(extract: Extract) -> None:
    with pytest.raises(UnexpectedFormatError, match="names name more than once"):
        extract("c.csv", b"company_id,name,name\nA,One,Two\n", "companies")


def test_unmapped_columns_go_to_attributes_and_are_flagged(extract: Extract) -> None:
    got = extract("c.csv", b'company_id,,attributes,fleet\nA,x,"{""fleet"":1}",7\nB,, ,\n', "companies")
    assert got.rows[0][7:] == ('{"fleet":1,"column_2":"x","fleet_":"7"}', "missing_name,unknown_fields")
    assert got.rows[1][7:] == ("{}", "missing_name")


def test_a_stray_quote_costs_its_own_line_and_nothing_below_it(extract: Extract) -> None:
    below = b"".join(b'K%d,"Name, %d",Rome\n' % (n, n) for n in range(3000))
    got = extract("c.csv", HEADER + b'A,"One,Rome\n' + below, "companies")
    assert got.codes == [(2, "malformed_csv")]
    assert got.rejects[0].excerpt == 'A,"One,Rome\n'
    assert [key for _, key in got.keys] == [f"K{n}" for n in range(3000)]


def test_a_stray_quote_above_unquoted_lines_gives_up_and_keeps_them(extract: Extract) -> None:
    below = b"".join(b"K%d,Name,Rome\n" % n for n in range(3000))
    got = extract("c.csv", HEADER + b'A,"One,Rome\n' + below, "companies")
    assert got.codes == [(2, "malformed_csv")]
    assert len(got.rows) == 3000


def test_quotes_that_happen_to_fit_are_taken_as_they_stand(extract: Extract) -> None:
    got = extract("c.csv", HEADER + b'A,"One,Rome\nB,Two",Oslo\nC,Three,Kiel\n', "companies")
    assert got.keys == [(2, "A"), (4, "C")]
    assert got.rows[0][2] == "One,Rome\nB,Two"
    assert got.rows[0][-1] == "swallowed_line"


def test_quotes_within_an_unquoted_cell_are_text(extract: Extract) -> None:
    assert extract("c.csv", HEADER + b'A,5" pipes,Rome\n', "companies").rows[0][2] == '5" pipes'


def test_too_many_or_too_few_cells_are_rejected(extract: Extract) -> None:
    got = extract("c.csv", HEADER + b"A,One\nB,Two,Rome,x\nC,Three,Rome,,\nD,Four,Rome\n", "companies")
    assert got.codes == [(2, "malformed_csv"), (3, "malformed_csv"), (4, "malformed_csv")]
    assert "2 cells, the header has 3" in got.rejects[0].message
    assert got.keys == [(5, "D")]


def test_poison_costs_its_record_alone(extract: Extract) -> None:
    long_cell = b"x" * (16 * 1024**2)
    content = HEADER + b"A,N\0ul,Rome\nB,\xff,Rome\n" + b"C," + long_cell + b",Rome\n" + b"D,Four,Rome\n"
    got = extract("c.csv", content, "companies", recipe=UTF8_RECIPE)
    assert got.codes == [(2, "nul_character"), (3, "invalid_encoding"), (4, "record_too_long")]
    assert got.keys == [(5, "D")]
    assert got.rejects[0].excerpt == "A,N␀ul,Rome\n"
    assert all(len(reject.excerpt.encode()) <= EXCERPT_BYTES for reject in got.rejects)


def test_an_escaped_nul_in_a_json_cell_is_rejected_but_its_text_in_a_plain_cell_is_not(extract: Extract) -> None:
    got = extract("c.csv", b'company_id,name,attributes\nA,\\u0000,\nB,,"{""a"":""\\u0000""}"\n', "companies")
    assert got.keys == [(2, "A")]
    assert got.codes == [(3, "nul_character")]


UTF8_RECIPE = """
description: companies in UTF-8
files: ["*.csv"]
priority: 1
domain: fleet
dataset: companies
csv: {header: company_id, encoding: utf-8}
"""


def test_encoding_auto_reads_latin1_where_utf8_does_not_fit(extract: Extract) -> None:
    assert extract("c.csv", HEADER + "A,Müller,Zürich\n".encode("latin-1"), "companies").rows[0][2:5:2] == ("Müller", "Zürich")
    assert extract("c.csv", HEADER + "A,Müller,Zürich\n".encode(), "companies").rows[0][2] == "Müller"


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "1e999", "1,5", "0x10", "1_0", "ten", "١٢"])
def test_what_is_no_finite_number_is_rejected_by_field(extract: Extract, text: str) -> None:
    got = extract("e.csv", f'event_id,speed_kmh\ne1,"{text}"\n'.encode())
    assert got.codes == [(2, "invalid_value")]
    assert got.rejects[0].message.startswith("speed_kmh: ")


def test_canonical_cells_are_cast_to_the_types_of_input(extract: Extract) -> None:
    content = b'event_id,event_at,latitude,speed_kmh\n007,2026-01-05T08:00:00Z,52.5,"1,137.5"\ne2,20260105,1,1\n'
    got = extract("e.csv", content)
    row = got.rows[0]
    assert (row[1], row[6].isoformat(), row[7], row[9]) == ("007", "2026-01-05T08:00:00+00:00", 52.5, 1137.5)
    assert got.rejects[0].message == "event_at: '20260105' is not a timestamp such as 2026-01-31T12:00:00Z."


def test_a_column_that_the_recipe_needs_and_the_header_lacks_is_named(extract: Extract) -> None:
    with pytest.raises(UnexpectedFormatError, match=r"fhv_dispatch needs the columns Number of Trips, Number of Vehicles; the header has"):
        extract("fhv_dispatch_2016.csv", b",Base Number,Base Name,,Pick Up Date\n,B1,X,,01/01/2015\n")


def test_a_file_whose_format_nothing_tells_is_refused(extract: Extract) -> None:
    recipe = UTF8_RECIPE.replace("*.csv", "*.data").replace("csv: {header: company_id, encoding: utf-8}", "")
    with pytest.raises(ConfigurationError, match=r"Add 'format:' to the recipe"):
        extract("x.data", b"", "companies", recipe=recipe)


def recipe(options: str, columns: str = "") -> str:
    """A recipe for companies with other CSV options."""
    return UTF8_RECIPE.replace("{header: company_id, encoding: utf-8}", options) + columns


def texts(extract: Extract, content: bytes, options: str | None = None) -> list[tuple[object, ...]]:
    """(line, id, name, city, flags) of each row, and (line, code) of each reject, in the order of lines."""
    got = extract("c.csv", content, "companies", recipe=recipe(options) if options else None)
    rows: list[tuple[object, ...]] = [(row[0], row[1], row[2], row[4], row[-1]) for row in got.rows]
    return sorted([*rows, *got.codes], key=lambda one: int(str(one[0])))


MIXED = "company_id,name,city\nA,Zürich Cargo,Zürich\nB,東京運輸,東京\nC,Caf\\e9 Nord,Oslo\nD,Plain,Bern\n".encode().replace(
    b"\\e9", b"\xe9"
)


def test_one_bad_byte_in_a_utf8_file_costs_its_record_alone(extract: Extract) -> None:
    got = texts(extract, MIXED)
    assert got[0] == (2, "A", "Zürich Cargo", "Zürich", "")
    assert got[1] == (3, "B", "東京運輸", "東京", "")
    assert got[2:] == [(4, "invalid_encoding"), (5, "D", "Plain", "Bern", "")]


@pytest.mark.parametrize("kept", ["", "B,Müller,Köln\n"])
@pytest.mark.parametrize("cut", ["Zü", "東"])
def test_a_file_cut_inside_a_character_loses_that_record_alone(extract: Extract, kept: str, cut: str) -> None:
    content = HEADER + f"A,Plain,Bern\n{kept}C,One,{cut}".encode()[:-1]
    got = texts(extract, content)
    assert got[0] == (2, "A", "Plain", "Bern", "")
    assert got[1:-1] == ([(3, "B", "Müller", "Köln", "")] if kept else [])
    assert got[-1][1] == "invalid_encoding"


def test_text_that_is_not_utf8_is_read_as_browsers_do_and_flagged(extract: Extract) -> None:
    content = HEADER + "A,Mike’s “Fast” Freight – €uro,Köln\nB,Plain,Bern\n".encode("cp1252")
    assert texts(extract, content) == [
        (2, "A", "Mike’s “Fast” Freight – €uro", "Köln", "guessed_encoding"), (3, "B", "Plain", "Bern", ""),
    ]  # fmt: skip


def test_in_guessed_text_what_may_be_either_or_is_neither_is_rejected(extract: Extract) -> None:
    lines = ["A,Müller,Köln", "B,Größe,Bern", "C,Café,Nîmes"]
    content = HEADER + "\n".join(lines).encode("cp1252") + "\nD,Zürich,Bern\n".encode() + b"E,\x81\xe9x,Oslo\n"
    got = texts(extract, content)
    assert [one[1] for one in got] == ["A", "B", "C", "invalid_encoding", "invalid_encoding"]


def test_a_mark_of_utf8_settles_the_encoding(extract: Extract) -> None:
    content = b"\xef\xbb\xbf" + HEADER + b"A,Caf\xe9,Oslo\nB,Caf\xe8,Oslo\nC,Plain,Oslo\n"
    assert texts(extract, content) == [(2, "invalid_encoding"), (3, "invalid_encoding"), (4, "C", "Plain", "Oslo", "")]


@pytest.mark.parametrize(
    ("label", "codec", "name"),
    [("latin-1", "cp1252", "“Mike” €"), ("shift_jis", "cp932", "東京|運輸 ①"), ("iso-2022-jp", "iso2022_jp", "東京")],
)
def test_a_recipe_names_the_encoding(extract: Extract, label: str, codec: str, name: str) -> None:
    content = HEADER + f"A,{name},Oslo\n".encode(codec)
    assert texts(extract, content, f"{{header: company_id, encoding: {label}}}") == [(2, "A", name, "Oslo", "")]


def test_another_script_is_recognised(extract: Extract) -> None:
    lines = "A,Транспортная компания,Москва\nB,Грузовые перевозки,Санкт-Петербург\n"
    assert texts(extract, HEADER + lines.encode("cp1251"))[0] == (2, "A", "Транспортная компания", "Москва", "guessed_encoding")


def test_surplus_cells_never_shift_columns(extract: Extract) -> None:
    content = b"company_id,name,city,sector\nA,Acme, Inc.,Oslo,\nB,Two,Rome,x,\nC,Three,Rome,x\n"
    assert [one[:2] for one in texts(extract, content)] == [(2, "malformed_csv"), (3, "malformed_csv"), (4, "C")]


def test_a_recipe_allows_for_a_delimiter_at_the_end(extract: Extract) -> None:
    content = HEADER + b"A,One,Rome,\nB,Two,Rome\nC,Three,Rome,x\nD,Four,Rome,,\n"
    got = texts(extract, content, "{header: company_id, trailing_delimiter: true}")
    assert [one[:2] for one in got] == [(2, "A"), (3, "B"), (4, "malformed_csv"), (5, "malformed_csv")]


@pytest.mark.parametrize(
    "again",
    [b"company_id,name,city\n", b"\xef\xbb\xbfcompany_id,name,city\n", b'"company_id","name", "city"\r\n', b" company_id ,name, city\n"],
)
def test_the_header_again_is_not_a_row(extract: Extract, again: bytes) -> None:
    got = texts(extract, HEADER + b"A,One,Rome\n" + again + b"B,Two,Oslo\n")
    assert got == [(2, "A", "One", "Rome", ""), (4, "B", "Two", "Oslo", "")]


def test_below_the_header_in_another_order_records_are_read_in_that_order(extract: Extract) -> None:
    content = HEADER + b"A,One,Rome\ncity,company_id,name\nOslo,B,Two\ncompany_id,name,city\nC,Three,Kiel\n"
    assert texts(extract, content) == [(2, "A", "One", "Rome", ""), (4, "B", "Two", "Oslo", ""), (6, "C", "Three", "Kiel", "")]


def test_below_a_header_with_other_columns_records_are_rejected_until_the_known_one_is_back(extract: Extract) -> None:
    content = HEADER + b"A,One,Rome\ncompany_id,name,country\nB,Two,Norway\ncompany_id,name,city\nC,Three,Kiel\n"
    got = extract("c.csv", content, "companies")
    assert [key for _, key in got.keys] == ["A", "C"]
    assert got.codes == [(3, "malformed_csv"), (4, "malformed_csv")]
    assert "Line 3 is a header with other columns" in got.rejects[1].message


def test_a_company_that_is_named_like_a_column_is_a_company(extract: Extract) -> None:
    assert texts(extract, HEADER + b"A,company_id,Rome\nB,name,city\n") == [
        (2, "A", "company_id", "Rome", ""),
        (3, "B", "name", "city", ""),
    ]


def test_a_mark_within_the_file_is_part_of_no_value(extract: Extract) -> None:
    mark = b"\xef\xbb\xbf"
    content = (
        mark + HEADER + mark + b"A,One,Rome\nB," + mark + b'Two,"' + mark + b'Os\nlo"\nC,Three,Kiel' + mark + HEADER + b"D,Four,Rome\n"
    )
    assert texts(extract, content) == [
        (2, "A", "One", "Rome", ""), (3, "B", "Two", "Os\nlo", ""), (5, "C", "Three", "Kiel", ""), (6, "D", "Four", "Rome", ""),
    ]  # fmt: skip


def test_a_line_in_a_cell_that_looks_like_a_record_is_flagged(extract: Extract) -> None:
    got = texts(extract, b'company_id,name\nA,"7 inch\nB,5"\nC,"two\nlines"\n"D\nD",ok\n')
    assert got == [(2, "A", "7 inch\nB,5", None, "swallowed_line"), (4, "C", "two\nlines", None, ""), (6, "D\nD", "ok", None, "")]


def test_several_such_lines_reject_the_record_and_give_the_lines_back(extract: Extract) -> None:
    got = texts(extract, b'company_id,name\nA,"7 inch\nB,Two\nC,5"\nD,ok\n')
    assert [one[:2] for one in got] == [(2, "malformed_csv"), (3, "B"), (4, "C"), (5, "D")]


def test_a_recipe_rules_line_ends_in_cells_out(extract: Extract) -> None:
    got = texts(extract, b'company_id,name\nA,"7 inch\nB,5"\nC,ok\n', "{header: company_id, multiline: false}")
    assert [one[:2] for one in got] == [(2, "malformed_csv"), (3, "B"), (4, "C")]


def test_a_blank_before_a_quote_does_not_count(extract: Extract) -> None:
    got = texts(extract, b'company_id, name, city\nA, "Foo, Inc", Oslo\nB, "Bar",Rome\n "C" ,Baz,Kiel\nD,"x, ""y""",Bern\n')
    assert got[:2] == [(2, "A", "Foo, Inc", "Oslo", ""), (3, "B", "Bar", "Rome", "")]
    assert got[2:] == [(4, "malformed_csv"), (5, "D", 'x, "y"', "Bern", "")]


def test_columns_are_named_by_their_place(extract: Extract) -> None:
    columns = '\ncolumns: {company_id: "{id}", name: "{new}", city: "{old}"}\n'
    for options, content in (
        ("{header: Id, columns: [id, old, new]}", b"Id,Name,Name\nA,One,Two\n"),
        ("{columns: [id, old, new], delimiter: ','}", b"A,One,Two\n"),
    ):
        assert extract("c.csv", content, "companies", recipe=recipe(options, columns)).rows[0][1:5:1][:2] == ("A", "Two")
    with pytest.raises(UnexpectedFormatError, match="the header has 2 columns, and the recipe names 3"):
        extract("c.csv", b"Id,Name\nA,One\n", "companies", recipe=recipe("{header: Id, columns: [id, old, new]}", columns))


EVENTS = b"event_id;latitude;longitude;speed_kmh\n"


def numbers(extract: Extract, content: bytes) -> list[object]:
    got = extract("e.csv", content)
    rows: list[tuple[object, ...]] = [(row[0], row[7], row[8], row[9]) for row in got.rows]
    return sorted([*rows, *got.codes])


def test_between_semicolons_a_comma_is_decimal(extract: Extract) -> None:
    content = EVENTS + b'e1;0,051;-0,118;0,250\ne2;51.5;"12,345";1.137,5\ne3;1;2;1.137\ne4;1;2;1,137.5\n'
    assert numbers(extract, content) == [
        (2, 0.051, -0.118, 0.25), (3, 51.5, 12.345, 1137.5), (4, "invalid_value"), (5, 1.0, 2.0, 1137.5),
    ]  # fmt: skip
    assert "may be 1.137 or 1137" in extract("e.csv", content).rejects[0].message


def test_between_semicolons_without_such_a_number_a_point_is_decimal(extract: Extract) -> None:
    assert numbers(extract, EVENTS + b"e1;52.520;13.405;1.137\n") == [(2, 52.52, 13.405, 1.137)]


@pytest.mark.parametrize("text", ["0,051", "-0,118", "0,250", "00,123", "12,34", "1,2345", "1,234,56", "1,23,456", ",123"])
def test_a_group_of_thousands_never_begins_with_0_and_stands_in_its_place(extract: Extract, text: str) -> None:
    got = extract("e.csv", f'event_id,speed_kmh\ne1,"{text}"\n'.encode())
    assert got.codes == [(2, "invalid_value")]


def test_a_number_too_small_for_its_column_is_not_zero(extract: Extract) -> None:
    assert extract("e.csv", b"event_id,speed_kmh\ne1,1e-400\ne2,0e-400\n").codes == [(2, "invalid_value")]


def test_a_key_twice_and_long_numbers_in_a_json_cell(extract: Extract) -> None:
    content = b'company_id,name,attributes\nA,One,"{""k"":1,""k"":2,""p"":0.12345678901234567890}"\n'
    assert extract("c.csv", content, "companies").rows[0][-2:] == ('{"k":1,"k_2":2,"p":0.12345678901234567890}', "repeated_key")
