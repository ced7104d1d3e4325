"""Articles with a planted parser: each file says in a word what is to happen when it is read (`misbehaviour.py`)."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import psycopg

from medallion_defs.core import clock
from medallion_defs.core.settings import Settings
from medallion_defs.ops.file_ingestion import DatasetIngestion
from medallion_defs.ops.ledger import Ledger
from medallion_defs.silver.contract import FileFacts
from medallion_defs.silver.file_parser import FileParser, load_source_parser
from medallion_defs.silver.load_run import SilverContent
from medallion_defs.sources.articles import transform
from medallion_defs.sources.articles.source import SOURCE
from medallion_defs.sources.articles.tables import TABLE
from medallion_defs.storage.local.publisher import LocalStore
from medallion_defs.storage.publishing import NewArtifact, NewItem
from tests.integration.misbehaviour import ACTIONS


def read_file(path: Path, item: FileFacts) -> tuple[object, ...]:
    word = path.read_text(encoding="utf-8")
    if word in ACTIONS:
        ACTIONS[word]()
    words: object = {"not": "a number"} if word == "wrong_type" else 1
    body = "\0" if word == "nul" else word
    return item.external_id, None, "title", None, body, words, "0" * 64, item.filename, ""


PARSER = load_source_parser(SOURCE, transform)
assert isinstance(PARSER, FileParser)
CONTENT = SilverContent(SOURCE, TABLE, FileParser(SOURCE.name, read_file, (), PARSER.recipe))


def publish(settings: Settings, files: Sequence[str] = ("page.html",), **words: str) -> None:
    """Put pages into bronze and into the ledger, each with a word in each of its files."""
    at = clock.now()
    with LocalStore(settings.bronze_path).group("articles") as group:
        for number, (name, word) in enumerate(words.items()):
            artifacts = [NewArtifact(file, word.encode()) for file in files]
            group.stage(NewItem(name, name, "planted", at + timedelta(microseconds=number), artifacts))
        rows = [DatasetIngestion.published(publication.item, at) for publication in group.publish()]
    with psycopg.connect(settings.require_database_url()) as connection:
        Ledger(connection).register_published(rows)


def claim(settings: Settings) -> list[str]:
    with psycopg.connect(settings.require_database_url()) as connection:
        batches = Ledger(connection).claim("articles", settings.source("articles"), CONTENT.code, clock.now())
    return [batch.batch_id for batch in batches]


def rows(db: psycopg.Connection) -> dict[str, tuple[str, int, str]]:
    """Return status, attempts and message of each item."""
    found = db.execute("SELECT external_id, status, attempts, silver_errors ->> 'message' FROM ops.file_ingestions").fetchall()
    db.commit()
    return {name: (status, attempts, message) for name, status, attempts, message in found}
