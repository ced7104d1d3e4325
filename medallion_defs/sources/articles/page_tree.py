"""From a page's text to the tree that the article is looked for in: whole, and of a shape that costs what it has bytes.

libxml2 drops all that comes after a nesting of 256 elements, without a word; given leave, of 2,048. The
extraction's cost grows with the depth of the tree, and with the square of the pieces that a paragraph is
made of. So a tree beyond what pages have is made again, flatter and with its paragraphs cut.
"""

import re
from collections import Counter
from dataclasses import dataclass
from html import escape
from typing import Any

from lxml import etree
from lxml.html import HTMLParser, document_fromstring

# The deepest of the benchmark's pages has 33 levels, the widest element 258 children.
MAX_DEPTH = 64
MAX_ROW = 500
_PARSER_DEPTH = 2_048
_MAX_LOST_SHARE = 0.1  # of the words; headings and links among them may be left out
_WORD = re.compile(r"\w+")

# They change how text looks, and cut it into pieces.
_LOOKS = frozenset(
    {
        "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "del", "dfn", "em", "font",
        "i", "ins", "kbd", "label", "mark", "nobr", "q", "rp", "rt", "ruby", "s", "samp", "small",
        "span", "strike", "strong", "sub", "sup", "time", "tt", "u", "var", "wbr",
    }
)  # fmt: skip
_INLINE = frozenset({"a", "br", "img"})
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track"}
)  # fmt: skip
_TABLE = frozenset({"table", "caption", "colgroup", "col", "thead", "tbody", "tfoot", "tr", "td", "th"})
_BREAK = "break"
_WITHOUT_TEXT = frozenset({"script", "style", "svg", "template"})


@dataclass(frozen=True)
class PageTree:
    """The tree of a page.

    Attributes:
        root: of a page of the usual depth and width as the parser made it.
        is_cut: the parser stopped at its own limit; what came after is in no tree.
        deep_text: pieces of text below `MAX_DEPTH`, which are paragraphs of their own in the tree.
    """

    root: Any
    is_cut: bool = False
    deep_text: tuple[str, ...] = ()

    def has_lost_text(self, body: str) -> bool:
        """Say whether text of the deep levels is not in the article that was found."""
        deep = Counter(word for piece in self.deep_text for word in _WORD.findall(piece))
        lost = deep - Counter(_WORD.findall(body))
        return self.is_cut or lost.total() > _MAX_LOST_SHARE * deep.total()


def parse_page(page: str) -> PageTree | None:
    """Return the tree of a page, None where it has no element."""
    from trafilatura.utils import repair_faulty_html  # only loads pay for it

    tree = _parse(repair_faulty_html(page, page[:50].lower()))
    if tree is None:
        return None
    depth, width = _measure(tree)
    if depth <= MAX_DEPTH and width <= MAX_ROW:
        return PageTree(tree)
    flat = _Flattener(has_tables=depth <= MAX_DEPTH)
    flat.add(tree)
    return PageTree(_parse("".join(flat.pieces)), depth >= _PARSER_DEPTH, tuple(flat.deep_text))


def _parse(page: str) -> Any | None:
    parser = HTMLParser(collect_ids=False, default_doctype=False, encoding="utf-8", remove_comments=True, remove_pis=True, huge_tree=True)
    try:
        return document_fromstring(page.encode("utf-8", "replace"), parser=parser)
    except etree.ParserError:  # nothing but comments
        return None


def _measure(tree: Any) -> tuple[int, int]:
    """Return how deep the tree is, and how many inline children one element has at most."""
    deepest = widest = 0
    counts: list[int] = []
    for event, element in etree.iterwalk(tree, events=("start", "end")):
        if event == "end":
            widest = max(widest, counts.pop())
            continue
        if counts:
            counts[-1] += element.tag in _LOOKS or element.tag in _INLINE
        counts.append(0)
        deepest = max(deepest, len(counts))
    return deepest, widest


class _Flattener:
    """Writes a tree as HTML of few levels, and of few inline elements in a row. All its text is kept.

    What lies too deep, or comes too late in a row, is put into paragraphs that the page does not have.
    """

    def __init__(self, *, has_tables: bool) -> None:
        """Args: `has_tables`: else cells become divisions, for the extraction drops what it does not expect in a cell."""
        self.pieces: list[str] = []
        self.deep_text: list[str] = []
        self._renamed = frozenset() if has_tables else _TABLE
        self._written: list[str] = []  # of each open element of the page: its tag, or what was done instead
        self._depth = self._row = 0
        self._has_paragraph = False

    def add(self, tree: Any) -> None:
        """Write a whole tree; without recursion, which ends at a thousand levels."""
        walk = etree.iterwalk(tree, events=("start", "end"))
        for event, element in walk:
            if event == "end":
                self._end()
                self._write(element.tail)
            elif element.tag in _WITHOUT_TEXT:
                self._written.append("")
                walk.skip_subtree()
            else:
                self._start(element)
                self._write(element.text)

    def _start(self, element: Any) -> None:
        tag = element.tag
        if tag in _LOOKS:
            self._written.append("")
        elif tag in _INLINE:
            self._start_inline(element)
        else:
            self._break()
            is_deep = self._depth >= MAX_DEPTH
            self._depth += not is_deep
            tag = "div" if tag in self._renamed else tag
            self._written.append(_BREAK if is_deep else tag)
            self.pieces.append("" if is_deep else _start_tag(tag, element))

    def _start_inline(self, element: Any) -> None:
        self._row += 1
        if self._row > MAX_ROW and "a" not in self._written[-1:]:
            self._break()
            self._begin_paragraph()
            self._row = 1
        self._written.append("a" if element.tag == "a" else "")
        self.pieces.append(_start_tag(element.tag, element))

    def _end(self) -> None:
        written = self._written.pop()
        if written == "a":
            self.pieces.append("</a>")
        elif written:
            self._break()
            if written != _BREAK:
                self._depth -= 1
                self.pieces.append("" if written in _VOID else f"</{written}>")

    def _write(self, text: str | None) -> None:
        if not text:
            return
        if self._depth >= MAX_DEPTH and text.strip():
            self._begin_paragraph()
            self.deep_text.append(text)
        self.pieces.append(escape(text, quote=False))

    def _begin_paragraph(self) -> None:
        self.pieces.append("" if self._has_paragraph else "<p>")
        self._has_paragraph = True

    def _break(self) -> None:
        self.pieces.append("</p>" if self._has_paragraph else "")
        self._has_paragraph = False
        self._row = 0


def _start_tag(tag: str, element: Any) -> str:
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in element.attrib.items())
    return f"<{tag}{attributes}>"
