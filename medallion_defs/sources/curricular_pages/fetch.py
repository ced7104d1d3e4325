"""How items of `curricular_pages` come in: the part of the two trees that the settings name."""

import re
from functools import partial

from medallion_defs.bronze.kinds import TreeFetch, TreeScope
from medallion_defs.core.sections import CurricularSettings
from medallion_defs.core.settings import Settings

_YEAR = re.compile(r"\d{4}")


def _read_scope(settings: Settings) -> TreeScope | None:
    pages = settings.curricular_pages()
    return None if pages is None else tree_scope(pages)


def tree_scope(pages: CurricularSettings) -> TreeScope:
    """Return the trees of pages, `{state}/{school}/{year}/{page}`, and which of them are wanted."""
    return TreeScope(pages.labels_dir, pages.images_dir, ("state", "school", "year"), partial(_is_wanted, pages))


def _is_wanted(pages: CurricularSettings, names: tuple[str, ...]) -> bool | str:
    match names:
        case (state,):
            return pages.states is None or state in pages.states
        case (_, _, year):
            if not _YEAR.fullmatch(year):
                return "a year is a folder of four digits; rename it"
            return (pages.from_year or 0) <= int(year) <= (pages.to_year or 9999)
    return True


FETCH = TreeFetch(_read_scope, "the settings have no section 'curricular', so there is nowhere to look; see docs/curricular-pages.md")
