"""The articles that tasks ask about: those with an article in them. Tasks import this and nothing else of the source."""

from medallion_defs.core.sql import load_queries
from medallion_defs.labeling.contract import Subjects

_QUERIES = load_queries(__package__, "subjects.sql")

ARTICLES = Subjects("articles", _QUERIES["candidates"], _QUERIES["inputs"])
