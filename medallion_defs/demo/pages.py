"""Sample pages of school publications: labels and drawn images as `curricular_pages` expects them, dirt included, and what is in them.

The generator keeps its own books while it writes, so what is expected does not come from the code that it checks. The same seed
gives the same bytes on the same version of Pillow.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

STATES = ("Alabama", "New Mexico", "Ohio")
SCHOOLS = ("Lincoln", "Jefferson High", "St. Mary's Academy", "Washington")
YEARS = (1924, 1957, 1987)
SIZE = (480, 640)

_SUBJECTS: Mapping[str, tuple[str, ...]] = {
    "science": ("Biology I", "Chemistry", "Physics", "Earth Science"),
    "mathematics": ("Algebra", "Plane Geometry", "Trigonometry"),
    "english": ("American Literature", "Composition", "Journalism"),
    "music": ("Concert Band", "Chorus", "Orchestra"),
    "family_and_consumer_science": ("Foods I", "Clothing", "Home Nursing"),
    "industrial_arts": ("Wood Shop", "Mechanical Drawing", "Auto Mechanics"),
    "business": ("Typing I", "Bookkeeping", "Shorthand"),
}
_ACTIVITIES = ("Science Club", "Debate Team", "Glee Club", "Future Farmers", "Yearbook Staff", "Chess Club", "Pep Squad")
_GRADES = ("9", "10", "11", "12", "mixed")
_PAPER, _INK, _SKIN = (247, 243, 232), (40, 36, 30), (201, 172, 146)


@dataclass(frozen=True)
class PageTruth:
    """What was drawn on one page."""

    subject: str
    grade: str
    courses: tuple[str, ...]
    activities: tuple[str, ...]
    people_count: int


@dataclass(frozen=True)
class PageTree:
    """What was written, and what must come of it.

    Attributes:
        pages: what is on each good page, by record key.
        refused: what no scan can take, by the name it is reported under; the values are words of the reason.
        ignored: files that no scan looks at, below the labels or the images.
    """

    labels_dir: Path
    images_dir: Path
    output_dir: Path
    pages: dict[str, PageTruth] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    ignored: list[Path] = field(default_factory=list)

    def label_path(self, key: str) -> Path:
        return self.labels_dir.joinpath(*key.split(":")[:3], f"{key.rpartition(':')[2]}.json")

    def image_path(self, key: str) -> Path:
        return self.images_dir.joinpath(*key.split(":")[:3], f"{key.rpartition(':')[2]}.png")

    def marker_path(self, key: str) -> Path:
        return self.output_dir.joinpath(*key.split(":")[:3], f"{key.rpartition(':')[2]}.json")


def write_page_tree(
    root: Path,
    states: Sequence[str] = STATES,
    schools: Sequence[str] = SCHOOLS,
    years: Sequence[int] = YEARS,
    pages_per_year: int = 8,
    seed: int = 7,
    *,
    dirt: bool = True,
) -> PageTree:
    """Write `pages_per_year` pages for each state, school and year below `root`, the folder that is `dataset` by default.

    With `dirt`, the first year of the first school also gets what people leave in such folders.
    """
    tree = PageTree(root / "label_to_curricular", root / "images", root / "output_results")
    for state in states:
        for school in schools:
            for year in years:
                random = Random(f"{seed} {state} {school} {year}")
                for page_num in range(1, pages_per_year + 1):
                    write_page(tree, f"{state}:{school}:{year}:{page_num}", random)
    if dirt:
        _write_dirt(tree, f"{states[0]}:{schools[0]}:{years[0]}", Random(seed))
    return tree


def write_page(tree: PageTree, key: str, random: Random) -> None:
    """Write one page; one that is there is written anew."""
    truth = _invent(random)
    _write(tree.label_path(key), json.dumps(_label(key, truth), indent=1).encode())
    _write(tree.image_path(key), draw_page(key, truth, random))
    tree.pages[key] = truth


def draw_page(key: str, truth: PageTruth, random: Random) -> bytes:
    """Return a PNG of the page: title, courses, activities, and a row of people to count."""
    from PIL import Image, ImageDraw, ImageFont

    _, school, year, page_num = key.split(":")
    image = Image.new("RGB", SIZE, _PAPER)
    draw = ImageDraw.Draw(image)
    title, text = ImageFont.load_default(26), ImageFont.load_default(15)
    draw.text((28, 24), truth.subject.replace("_", " ").title(), font=title, fill=_INK)
    draw.text((28, 60), f"{school} {year}   grade {truth.grade}", font=text, fill=_INK)
    for line, name in enumerate((*truth.courses, *truth.activities)):
        draw.text((40, 100 + 24 * line), f"- {name}", font=text, fill=_INK)
    _draw_people(draw, truth.people_count, random)
    draw.text((SIZE[0] // 2, SIZE[1] - 28), page_num, font=text, fill=_INK)
    buffer = BytesIO()
    image.quantize(16).save(buffer, format="PNG", optimize=False)
    return buffer.getvalue()


def _draw_people(draw: "ImageDraw", count: int, random: Random) -> None:
    for place in range(count):
        left, top = 34 + 42 * (place % 10), 330 + 76 * (place // 10) + random.randint(0, 6)
        draw.ellipse((left + 8, top, left + 26, top + 22), fill=_SKIN, outline=_INK)
        draw.rectangle((left, top + 24, left + 34, top + 62), outline=_INK, width=2)


def _invent(random: Random) -> PageTruth:
    subject = random.choice(sorted(_SUBJECTS))
    courses = tuple(random.sample(_SUBJECTS[subject], random.randint(1, 3)))
    activities = tuple(random.sample(_ACTIVITIES, random.randint(0, 2)))
    return PageTruth(subject, random.choice(_GRADES), courses, activities, random.randint(0, 28))


def _label(key: str, truth: PageTruth) -> dict[str, Any]:
    state, school, year, page_num = key.split(":")
    return {
        "state": state,
        "school": school,
        "year": int(year),
        "page_num": int(page_num),
        "category": "curricular",
        "title": truth.subject.replace("_", " ").title(),
        "text": "\n".join((*truth.courses, *truth.activities)),
        "regions": [{"kind": "people", "count": truth.people_count}] if truth.people_count else [],
    }


def _write_dirt(tree: PageTree, prefix: str, random: Random) -> None:
    folder = tree.labels_dir.joinpath(*prefix.split(":"))
    _write(folder / "901.json", b'{"text": "nobody scanned me"}')
    tree.refused[f"{prefix}:901"] = "no image"
    write_page(tree, f"{prefix}:902", random)
    _write(tree.label_path(f"{prefix}:902"), b'{"text": "cut off')
    tree.refused[f"{prefix}:902"] = "not JSON"
    write_page(tree, f"{prefix}:903", random)
    _write(tree.image_path(f"{prefix}:903").with_suffix(".jpg"), b"a second image of the page")
    tree.refused[f"{prefix}:903"] = "several images"
    _write(folder / "cover page.json", b"{}")
    tree.refused[f"{prefix.replace(':', '/')}/cover page.json"] = "a label is"
    for key in (f"{prefix}:902", f"{prefix}:903"):
        del tree.pages[key]
    orphan = tree.images_dir.joinpath(*prefix.split(":"), "904.png")
    for path in (orphan, folder / ".DS_Store", folder / "905.json.part"):
        _write(path, b"not looked at")
        tree.ignored.append(path)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
