"""How items of `curricular_pages` come in: the part of the two trees that the settings name."""

from medallion_defs.bronze.contract import TreeFetch, TreeScope
from medallion_defs.core.settings import Settings


def _read_scope(settings: Settings) -> TreeScope | None:
    pages = settings.curricular_pages()
    return None if pages is None else TreeScope(pages.labels_dir, pages.images_dir, pages.states, pages.from_year, pages.to_year)


FETCH = TreeFetch(_read_scope)
