"""Partition keys: the item's directory for a person to read, and nothing that Dagster would refuse."""

from uuid import UUID

import pytest

from medallion_defs.silver.partitions import partition_key
from medallion_defs.storage.naming import encode_external_id, revision_directory

FILE_ID = UUID("2df9d9f6-1fb0-8efb-87c3-f8507ca217c4")


@pytest.mark.parametrize("external_id", ["fleet.csv", "2026/11/Day 1.csv", "Ünï.jsonl", "a..b", "x" * 900, "Y" * 199])
def test_an_item_is_named_by_its_directory(external_id: str) -> None:
    for revision in (1, 2, 10_000):
        directory = revision_directory(encode_external_id(external_id), revision)
        assert partition_key(directory, FILE_ID) == directory


@pytest.mark.parametrize("directory", ["a...b", "a....", "with,comma", "tab\there", "line\n", "x" * 256, ""])
def test_what_dagster_or_its_page_would_misread_is_named_by_the_file_id(directory: str) -> None:
    assert partition_key(directory, FILE_ID) == str(FILE_ID)
