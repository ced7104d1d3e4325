"""The pages that tasks ask about. Tasks import this and nothing else of the source."""

from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.contract import Subjects

_QUERIES = load_queries(__package__, "subjects.sql")

PAGES = Subjects("pages", _QUERIES["candidates"], _QUERIES["inputs"])
