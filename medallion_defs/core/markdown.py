"""Markdown that Medallion writes, and text that it only shows: the one place where the second becomes the first.

The Dagster page and the terminal render Markdown. A file name, a value, an error or a model's answer in it must read as it
is: a link or an image in one would be fetched by the browser of whoever looks. So what is rendered has the type `Markdown`,
and text gets that type by being escaped. What is HTML by a template escapes by the template's own means, not here.

Rules of the renderers that are not obvious: remark-gfm makes links of bare addresses *after* it has resolved escapes and
character references, so an address is shown as code; a pipe splits a table's cell even within code.
"""

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, LiteralString

_WORD_PARTS = re.compile(r"([ |`])")
# More than remark-gfm takes for an address: no rule about what may stand before or after it.
_ADDRESS = re.compile(r"//|www\.|@[-\w]+\.", re.IGNORECASE)
_MARKUP = re.compile(r"[\\*~\[\]]|(?<![^\W_])_+|_+(?![^\W_])")
_NUMBERED = re.compile(r"(\d{1,9})([.)])")
# Not shown as they are: terminals obey the first, and the others turn the direction in which the rest is read.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "`": "&#96;"}


class Markdown(str):
    """Text that may be rendered. Made by the functions here; by this class only of what stands in the code."""

    __slots__ = ()


def escape(value: object) -> Markdown:
    """Return `value` as one line that renders as the text it is: no markup, no link, no image, no HTML."""
    if isinstance(value, Markdown):
        return value
    text = _CONTROLS.sub("\ufffd", " ".join(str(value).split()))
    escaped = "".join(map(_escape_part, _WORD_PARTS.split(text)))
    return Markdown(_escape_line_start(escaped))


def code(value: object) -> Markdown:
    """Return `value` as code, for ids and names; escaped like other text where code cannot hold it."""
    text = _CONTROLS.sub("\ufffd", " ".join(str(value).split()))
    return Markdown(f"`{text}`") if text and not re.search(r"[|`\\]", text) else escape(text)


def code_block(text: str, language: LiteralString = "") -> Markdown:
    """Return lines as a block of code, to be copied as they are; a line that would end the block is indented."""
    lines = [_CONTROLS.sub("\ufffd", line) for line in text.split("\n")]
    shown = "\n".join(f" {line}" if line.lstrip().startswith("```") else line for line in lines)
    return Markdown(f"```{language}\n{shown}\n```")


def fill(template: LiteralString, **values: object) -> Markdown:
    """Return the template, which is Markdown, with each value of a `{name}` or `{name:format}` escaped.

    Example:
        >>> fill("**{name}**: {rows:,} rows", name="a*b", rows=1200)
        '**a\\\\*b**: 1,200 rows'
    """
    return Markdown(_Escaping().vformat(template, (), values))


def join(parts: Iterable[Markdown], separator: LiteralString = "\n") -> Markdown:
    """Return the parts that are not empty, `separator` between them."""
    return Markdown(separator.join(part for part in parts if part))


def table(headers: Sequence[object], rows: Iterable[Sequence[object]]) -> Markdown:
    """Return a table, every cell escaped; empty when there are no rows."""
    body = [_row(row) for row in rows]
    return Markdown("\n".join([_row(headers), "|" + "---|" * len(headers), *body]) if body else "")


class _Escaping(string.Formatter):
    def get_value(self, key: int | str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        value = super().get_value(key, args, kwargs)
        return value if isinstance(value, int | float | Decimal) else escape(value)


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(escape, cells)) + " |"


def _escape_part(part: str) -> str:
    if _ADDRESS.search(part):
        return f"`{part}`"
    entities = "".join(_ENTITIES.get(character, character) for character in part)
    return _MARKUP.sub(lambda found: "".join("\\" + character for character in found.group()), entities)


def _escape_line_start(text: str) -> str:
    numbered = _NUMBERED.match(text)
    if numbered:
        return f"{numbered[1]}\\{text[numbered.end(1) :]}"
    return "\\" + text if text[:1] in tuple("-+=#:") else text
