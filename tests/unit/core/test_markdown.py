"""Text that was delivered reads as it is wherever Markdown is rendered, and nothing in it is fetched or followed."""

import html
import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from medallion_defs.core.markdown import Markdown, code, code_block, escape, fill, join, table

HOSTILE = [
    "![x](http://127.0.0.1:9/leak)", "[x](http://a.example/)", "<img src=http://a.example/x>", "http://a.example/x", "see www.a.example.",
    "mail a.b@c.example now", "`http://a.example`", "x|http://a.example/|y", "*bold* _em_ **b** __e__ ~~gone~~", "# heading", "1. one",
    "2) two", "- item", "+ item", "=====", "---", "> quote", "&lt;b&gt; &#60;", "a\\|b", "a\\", "`", "``", "[^1] [x]: http://a.example",
    "line\none", "tab\tand  blanks", "<script>alert(1)</script>", "http:\\//a.example", "HTTPS://A.EXAMPLE", "ftp://a.example/b|c",
    ":---", "__init__.py", "driver_events/day_1.jsonl@2", "<http://a.example>", "(http://a.example)", "![a][b]", "![a]", "***", "___",
]  # fmt: skip
ALPHABET = "ab1 .:/\\|`*_~[]()!<>&#;-+=@w\n\t\"'^{}$%"


def render(markdown: str) -> str:
    return str(MarkdownIt("commonmark").enable(["table", "strikethrough"]).render(markdown))


def shown(rendered: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", rendered)).strip()


def tags(rendered: str) -> set[str]:
    return set(re.findall(r"<(\w+)", rendered))


def is_text_alone(markdown: str, value: str) -> bool:
    rendered = render(markdown)
    return shown(rendered) == " ".join(value.split()) and tags(rendered) <= {"p", "code"}


@pytest.mark.parametrize("value", HOSTILE)
def test_what_was_delivered_reads_as_it_is(value: str) -> None:
    assert is_text_alone(escape(value), value)
    assert is_text_alone(code(value), value)


@given(st.text(ALPHABET, max_size=30))
def test_no_combination_of_marks_is_markup(value: str) -> None:
    assert is_text_alone(escape(value), value)
    assert is_text_alone(code(value), value)


@given(st.text(ALPHABET, max_size=30))
def test_an_address_is_never_outside_of_code(value: str) -> None:
    """remark-gfm looks for addresses in the text that is left when escapes and references are resolved."""
    outside = html.unescape(re.sub(r"<code>.*?</code>", " ", render(escape(value)), flags=re.DOTALL))
    assert not re.search(r"https?://|www\.|[\w.+-]@[-\w]+\.\w", outside, re.IGNORECASE)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_cell_stays_a_cell(value: str) -> None:
    rendered = render(table(["name", "why"], [(value, "reason")]))
    cells = [shown(cell) for cell in re.findall(r"<td>(.*?)</td>", rendered, re.DOTALL)]
    assert cells == [" ".join(value.split()), "reason"]
    assert tags(rendered) <= {"table", "thead", "tbody", "tr", "th", "td", "code"}


def test_a_terminal_and_the_direction_of_reading_are_not_commanded() -> None:
    assert escape("a\x1b[31mb\u202egnp.exe") == "a\ufffd\\[31mb\ufffdgnp.exe"


def test_a_template_is_markdown_and_its_values_are_not() -> None:
    text = fill("**{name}**: {rows:,} rows, {cost:.2f} USD, {id}", name="[a](b)", rows=1200, cost=Decimal("0.5"), id=code("x_y"))
    assert text == "**\\[a\\](b)**: 1,200 rows, 0.50 USD, `x_y`"
    assert isinstance(text, Markdown)


def test_markdown_is_not_escaped_twice() -> None:
    assert escape(escape("*a*")) == escape("*a*")
    assert join([escape("a"), Markdown(""), escape("b")], "\n\n") == "a\n\nb"


def test_a_table_without_rows_is_nothing() -> None:
    assert table(["a"], []) == ""


def test_a_block_of_code_is_what_it_was_and_cannot_be_left_from_within() -> None:
    assert code_block("a: 1\n  - b", "yaml") == "```yaml\na: 1\n  - b\n```"
    assert code_block("x\n```\n![](http://here)").count("\n```") == 1
