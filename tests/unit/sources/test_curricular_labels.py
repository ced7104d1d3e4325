"""What a label says reaches its row as it stands there, or the page is refused."""

import json
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from medallion_defs.silver.contract import FileFacts, InvalidRecord
from medallion_defs.sources.curricular_pages.transform import Row, read_file
from medallion_defs.storage.item import Artifact
from tests.media_files import image_bytes


def read(tmp_path: Path, label: bytes) -> dict[str, object]:
    contents = {"label.json": label, "image.png": image_bytes("PNG")}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    artifacts = tuple(Artifact(name, "x/y", len(content), "0" * 64) for name, content in contents.items())
    item = FileFacts(
        UUID(int=0), "4.json", datetime(2026, 2, 1, tzinfo=UTC), "Alabama:Lincoln:1987:4", "pages/4", "label.json", len(label), "0" * 64,
        artifacts,
    )  # fmt: skip
    return dict(zip((*Row.__struct_fields__, "flags"), read_file(tmp_path / "label.json", item), strict=True))


def test_a_decimal_of_a_label_keeps_its_digits(tmp_path: Path) -> None:
    row = read(tmp_path, b'\xef\xbb\xbf{"score": 0.1234567890123456789012345}')
    assert (row["label"], row["flags"]) == ('{"score":0.1234567890123456789012345}', "")


def test_a_key_that_stands_twice_is_refused_or_flagged_and_never_the_last_taken(tmp_path: Path) -> None:
    with pytest.raises(InvalidRecord, match="the key 'school' stands more than once") as caught:
        read(tmp_path, b'{"school": "A", "school": "B"}')
    assert caught.value.error_code == "repeated_key"
    row = read(tmp_path, b'{"at": {"school": "A", "school": "B"}}')
    assert (json.loads(str(row["label"])), row["flags"]) == ({"at": {"school": "A", "school_2": "B"}}, "repeated_key")


@pytest.mark.parametrize("label", [b"[1]", b"{", b'{"a": "\xff"}'])
def test_what_is_not_an_object_is_refused(tmp_path: Path, label: bytes) -> None:
    with pytest.raises(InvalidRecord, match="the label is not a JSON object"):
        read(tmp_path, label)
