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
    for content in (b"", b"A,One\n" * 5, b"\n" * 2000 + HEADER):
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


def test_quotes_within_an_unquoted_cell_are_text(extract: Extract) -> None:
    assert extract("c.csv", HEADER + b'A,5" pipes,Rome\n', "companies").rows[0][2] == '5" pipes'


def test_too_many_or_too_few_cells_are_rejected_but_blank_surplus_is_not(extract: Extract) -> None:
    got = extract("c.csv", HEADER + b"A,One\nB,Two,Rome,x\nC,Three,Rome,,\nD,Four,Rome\n", "companies")
    assert got.codes == [(2, "malformed_csv"), (3, "malformed_csv")]
    assert "2 cells, the header has 3" in got.rejects[0].message
    assert got.keys == [(4, "C"), (5, "D")]


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
