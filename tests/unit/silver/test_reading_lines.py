"""From files to lines: line ends, compression, marks, limits."""

import gzip
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medallion_defs.core.errors import TransientError
from medallion_defs.silver import reader
from medallion_defs.silver.reader import (
    MAX_RECORD_BYTES,
    InputFile,
    OverlongLine,
    UnexpectedFormatError,
    UnreadableFileError,
    detect_encoding,
    read_chunks,
    read_lines,
)
from tests.local_files import opener


def flat(chunks: list[bytes]) -> list[bytes]:
    lines: list[bytes] = []
    for batch in read_lines(chunks):
        assert isinstance(batch, list)
        assert batch, "an empty batch"
        lines += batch
    return lines


@given(
    st.lists(st.binary(min_size=1, max_size=8).map(lambda raw: raw.translate(bytes(b"a\n\r\r\nb"[i % 6] for i in range(256)))), max_size=12)
)
def test_lines_do_not_depend_on_where_the_chunks_are_cut(chunks: list[bytes]) -> None:
    assert flat(chunks) == b"".join(chunks).splitlines(keepends=True)


def test_a_line_of_one_gigabyte_costs_only_itself_and_memory_stays_flat() -> None:
    piece = b"x" * (1024**2)

    def chunks() -> Iterator[bytes]:
        yield b"first\n"
        for _ in range(1024):
            yield piece
        yield b"\nlast\n"

    tracemalloc.start()
    batches = list(read_lines(chunks()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert batches[0] == [b"first\n"]
    assert isinstance(batches[1], OverlongLine)
    assert batches[1].start == b"x" * 1024
    assert batches[2] == [b"last\n"]
    assert peak < 64 * 1024**2


@pytest.mark.parametrize("surplus", [0, 1])
def test_the_longest_line_that_is_kept_has_16_mb(surplus: int) -> None:
    line = b"y" * (MAX_RECORD_BYTES - 1 + surplus) + b"\n"
    [batch] = read_lines([line[:1000], line[1000:], b""][:2])
    assert isinstance(batch, OverlongLine) == bool(surplus)


def test_an_overlong_line_at_the_end_of_the_file_is_reported() -> None:
    half = b"z" * (MAX_RECORD_BYTES // 2 + 1)
    [batch] = read_lines([half, half])
    assert isinstance(batch, OverlongLine)


def write(tmp_path: Path, content: bytes, name: str = "x.csv") -> InputFile:
    path = tmp_path / "artifact"
    path.write_bytes(content)
    return InputFile(opener(path), name)


def test_gzip_is_known_by_its_bytes_and_not_by_its_name(tmp_path: Path) -> None:
    assert b"".join(read_chunks(write(tmp_path, gzip.compress(b"a,b\n"), "x.csv"))) == b"a,b\n"
    assert b"".join(read_chunks(write(tmp_path, gzip.compress(b"a,") + gzip.compress(b"b\n"), "x.csv.gz"))) == b"a,b\n"


def test_a_name_in_gz_on_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"x\.csv\.gz: named \.gz but not gzip"):
        list(read_chunks(write(tmp_path, b"a,b\n", "x.csv.gz")))


@pytest.mark.parametrize("damage", ["cut", "flipped", "checksum", "appended"])
def test_damaged_gzip_is_refused_and_the_file_named(tmp_path: Path, damage: str) -> None:
    packed = gzip.compress(bytes(range(256)) * 50)
    broken = {
        "cut": packed[:-12],
        "flipped": packed[:12] + bytes([packed[12] ^ 255]) + packed[13:],
        "checksum": packed[:-8] + b"\0\0\0\0" + packed[-4:],
        "appended": packed + b"rubbish",
    }[damage]
    with pytest.raises(UnreadableFileError, match=r"x\.csv\.gz.*cut off or damaged"):
        list(read_chunks(write(tmp_path, broken, "x.csv.gz")))


def test_a_gzip_bomb_is_refused_before_it_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(8 * 1024**2))
    assert sum(map(len, read_chunks(write(tmp_path, bomb)))) == 8 * 1024**2, "below the free bytes any ratio is fine"
    monkeypatch.setattr(reader, "GZIP_FREE_BYTES", 1024**2)
    with pytest.raises(UnreadableFileError, match="gzip bomb"):
        list(read_chunks(write(tmp_path, bomb)))
    monkeypatch.setattr(reader, "GZIP_FREE_BYTES", 64 * 1024**2)
    monkeypatch.setattr(reader, "GZIP_MAX_BYTES", 4 * 1024**2)
    with pytest.raises(UnreadableFileError, match="gzip bomb"):
        list(read_chunks(write(tmp_path, bomb)))


def test_a_utf8_mark_is_cut_and_utf16_is_refused_with_a_remedy(tmp_path: Path) -> None:
    assert b"".join(read_chunks(write(tmp_path, b"\xef\xbb\xbfa\n"))) == b"a\n"
    assert b"".join(read_chunks(write(tmp_path, gzip.compress(b"\xef\xbb\xbfa\n")))) == b"a\n"
    with pytest.raises(UnexpectedFormatError, match=r"UTF-16\. Save it as UTF-8"):
        list(read_chunks(write(tmp_path, "a\n".encode("utf-16"))))


def test_an_absent_file_is_terminal_and_a_failing_disk_is_not(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="there is no file"):
        list(read_chunks(InputFile(opener(tmp_path / "nothing"), "x.csv")))
    with pytest.raises(TransientError, match="tried again"):
        list(read_chunks(InputFile(opener(tmp_path), "x.csv")))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty"),
        (gzip.compress(b"a,b\n", mtime=0), "compressed twice"),
        ("a,b\n".encode("utf-16"), r"the text is UTF-16\. Save it as UTF-8"),
        ("id,Müller\n".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("id,Müller\n".encode("utf-16-be"), "UTF-16 without a byte order mark"),
        (b"\xef\xbb\xbf\xef\xbb\xbfa,b\n", "begins with two byte order marks"),
    ],
)
def test_each_kind_of_unreadable_file_has_its_own_sentence(
    tmp_path: Path, pack: Callable[[bytes], bytes], content: bytes, sentence: str
) -> None:
    if pack is bytes and content.startswith(b"\x1f\x8b"):
        content = gzip.compress(content)
    with pytest.raises((UnexpectedFormatError, UnreadableFileError), match=rf"^x\.csv: .*{sentence}"):
        list(read_chunks(write(tmp_path, pack(content))))


@pytest.mark.parametrize("content", [b"a\n", b"\0", b"a\0", b"a,\0b,c\n", b"\0\0\0\0"])
def test_a_nul_here_and_there_is_not_utf16(tmp_path: Path, content: bytes) -> None:
    assert b"".join(read_chunks(write(tmp_path, content))) == content


def test_a_file_is_utf8_unless_more_lines_say_otherwise(tmp_path: Path) -> None:
    umlaut = "ü".encode()
    aligned = b"x" * (reader.CHUNK_BYTES - 1) + umlaut + b"\n"  # the character lies across two chunks

    def name_of(content: bytes) -> str:
        found = detect_encoding(write(tmp_path, content))
        assert found.is_guess == (found.encoding.name != "utf-8")
        return found.encoding.name

    assert name_of(b"plain\n") == "utf-8"
    assert name_of(aligned) == "utf-8"
    assert name_of(aligned + b"\xfc\n") == "utf-8"
    assert name_of(aligned + b"\xfc\n\xfc\n") == "windows-1252"
    assert name_of(b"\xef\xbb\xbf\xfc\n\xfc\n") == "utf-8"
    assert name_of(b"\xfc\n") == "windows-1252"
    assert name_of(b"cut" + umlaut[:1]) == "utf-8"
    assert name_of(b"\xfc\ncut" + umlaut[:1]) == "windows-1252"
