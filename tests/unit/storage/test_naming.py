"""Directory names: safe, injective also where case is ignored, readable, and reversible while they are short."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medallion_defs.storage.naming import InvalidExternalIdError, artifact_name, encode_external_id, media_type, revision_directory

SAFE = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%~-")


def is_valid(external_id: str) -> bool:
    return not external_id.startswith("/") and ".." not in external_id.split("/")


tricky = st.text(st.sampled_from("aAbBéÉ.@_~%/2 -\n\\"), min_size=1, max_size=12)
external_ids = st.one_of(tricky, st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=400)).filter(is_valid)


@given(external_ids)
def test_a_name_is_safe_on_every_file_system(external_id: str) -> None:
    name = encode_external_id(external_id)
    assert set(name) <= SAFE
    assert 1 <= len(name) <= 200
    assert name[0] not in "._"
    assert "@" not in name


@given(external_ids, external_ids)
def test_two_ids_never_share_a_name_even_where_case_is_ignored(one: str, other: str) -> None:
    same = encode_external_id(one).casefold() == encode_external_id(other).casefold()
    assert same == (one == other)


@given(st.text(st.sampled_from("aAbB./"), min_size=1, max_size=8).filter(is_valid))
def test_ids_that_differ_in_case_only_get_names_that_differ_in_more(external_id: str) -> None:
    twin = external_id.swapcase()
    same = encode_external_id(external_id).casefold() == encode_external_id(twin).casefold()
    assert same == (external_id == twin)


@given(external_ids)
def test_a_name_that_is_not_cut_can_be_read_back(external_id: str) -> None:
    name = encode_external_id(external_id)
    if "~~" not in name:
        text, _, capitals = name.partition("~")
        lower = unquote(text).translate({ord(upper): upper.lower() for upper in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"})
        bits = int(capitals or "0", 16)
        assert "".join(c.upper() if bits >> place & 1 else c for place, c in enumerate(lower)) == external_id
        assert unquote(text) == external_id


@pytest.mark.parametrize(
    ("external_id", "name"),
    [
        ("fhv_dispatch_2015.csv", "fhv_dispatch_2015.csv"),
        ("FHV Dispatch 2015.csv", "FHV%20Dispatch%202015.csv~17"),
        ("2024/05/a.csv", "2024%2f05%2fa.csv"),
        ("_index.jsonl", "%5findex.jsonl"),
        (".staging", "%2estaging"),
        ("a.csv@2", "a.csv%402"),
    ],
)
def test_names_stay_readable(external_id: str, name: str) -> None:
    assert encode_external_id(external_id) == name


def test_long_ids_keep_their_start_and_end_in_a_hash() -> None:
    names = {encode_external_id("x" * 300), encode_external_id("x" * 301), encode_external_id("x" * 299 + "X")}
    assert len(names) == 3
    assert all(name.startswith("x" * 100) and len(name) <= 200 for name in names)


@pytest.mark.parametrize("external_id", ["", "/etc/passwd", "..", "../a", "a/../b", "a/..", "a\0b", "bad\udc80"])
def test_ids_that_could_leave_their_folder_are_refused(external_id: str) -> None:
    with pytest.raises(InvalidExternalIdError, match="Rename it"):
        encode_external_id(external_id)


def test_revisions_are_told_apart_by_their_suffix() -> None:
    assert [revision_directory("x", n) for n in (1, 2, 10)] == ["x", "x@2", "x@10"]


@pytest.mark.parametrize(
    ("filename", "name", "kind"),
    [
        ("fleet.csv", "events.csv", "text/csv"),
        ("Fleet.CSV", "events.csv", "text/csv"),
        ("v1.2.jsonl.gz", "events.jsonl.gz", "application/gzip"),
        ("report.2015.ndjson", "events.ndjson", "application/x-ndjson"),
        ("README", "events.bin", "application/octet-stream"),
        ("a.b c", "events.bin", "application/octet-stream"),
    ],
)
def test_artifacts_are_named_by_type_and_extension(filename: str, name: str, kind: str) -> None:
    assert artifact_name("events", filename) == name
    assert media_type(name) == kind
