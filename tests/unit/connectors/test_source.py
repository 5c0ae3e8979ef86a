"""One file as lines: plain and gzip, whole and half lines, what is no text."""

import gzip
import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.connectors.source import MAX_LINE, SourceReader
from streamtrain.errors import DataError, Unreadable


def reader(data: bytes, *, whole_lines: bool = False) -> SourceReader:
    return SourceReader(io.BytesIO(data), "data/part-0", whole_lines=whole_lines)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@given(st.lists(st.binary(max_size=20).map(lambda b: b.replace(b"\n", b"")), max_size=20), st.booleans())
def test_plain_and_gzip_give_the_same_lines(lines: list[bytes], packed: bool) -> None:
    text = b"#\n" + b"\n".join(lines)
    data = gzip.compress(text) if packed else text
    source = reader(data)
    expected = text.split(b"\n")
    assert list(source.lines()) == (expected if expected[-1] else expected[:-1])
    assert (source.size, source.sha256) == (len(data), digest(data))


@given(st.binary(max_size=60), st.integers(1, 7))
def test_a_last_line_without_its_end_waits(data: bytes, block: int) -> None:
    data = b"#\n" + data
    end = data.rfind(b"\n") + 1
    source = reader(data, whole_lines=True)
    source.BLOCK = block
    lines = data[:end].split(b"\n")[:-1]
    assert list(source.lines()) == lines
    assert (source.size, source.sha256, source.held) == (end, digest(data[:end]), end < len(data))


def test_a_gzip_file_is_whole() -> None:
    data = gzip.compress(b"a\nb")
    source = reader(data, whole_lines=True)
    assert list(source.lines()) == [b"a", b"b"]
    assert (source.size, source.sha256, source.held) == (len(data), digest(data), False)


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    for data in (b"\xef\xbb\xbf1:1\n2\n", b"\xef\xbb\xbf1:1\n2"):
        assert list(reader(data).lines()) == [b"1:1", b"2"]
        assert list(reader(gzip.compress(data)).lines()) == [b"1:1", b"2"]
        assert reader(data).skip(len(data))[0] == digest(data)
    assert list(reader(b"a\n\xef\xbb\xbfb").lines()) == [b"a", b"\xef\xbb\xbfb"]


def test_skip_tells_digest_line_ends_and_whether_the_last_line_is_whole() -> None:
    source = reader(b"a\nb\nc\n")
    assert source.skip(4) == (digest(b"a\nb\n"), 2, True)
    assert list(source.lines()) == [b"c"]
    assert source.sha256 == digest(b"a\nb\nc\n")
    assert reader(b"a\nb\nc\n").skip(3) == (digest(b"a\nb"), 1, False)
    assert reader(b"").skip(0) == (digest(b""), 0, True)


def test_a_longer_line_comes_cut() -> None:
    source = reader(b"a\n" + b"x" * (MAX_LINE + 5 << 1) + b"\nb\n")
    assert [len(line) for line in source.lines()] == [1, MAX_LINE + 1, 1]


@pytest.mark.parametrize(
    ("head", "what"),
    [(b"\x28\xb5\x2f\xfd...", "zstd"), (b"\xfd7zXZ\x00", "xz"), (b"BZh91AY&SY", "bzip2"), (b"PK\x03\x04", "zip"),
     (b"\x04\x22\x4d\x18", "lz4"), ("1:1 5:2\n".encode("utf-16"), "UTF-16")],
)  # fmt: skip
def test_what_is_no_text_is_refused_by_name(head: bytes, what: str) -> None:
    with pytest.raises(DataError, match=f"data/part-0 is .*{what}"):
        list(reader(head).lines())


@pytest.mark.parametrize(  # gzip's header has the time, which must not be in a test's name
    "cut", [gzip.compress(b"1:1 5:2\n" * 99)[:-9], b"\x1f\x8b\x08garbage that is no gzip"], ids=["cut", "garbage"]
)
def test_a_damaged_gzip_is_the_files_fault(cut: bytes) -> None:
    with pytest.raises(DataError, match="data/part-0 cannot be read to its end"):
        list(reader(cut).lines())


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), RuntimeError("botocore says no")])
def test_a_refused_read_is_not_the_files_fault(packed: bool, error: Exception) -> None:
    data = bytes(range(256)) * 9999
    data = gzip.compress(data) if packed else data.replace(b"\x00", b" ")

    class Raw(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 10:
                raise error
            return super().read(size)

    with pytest.raises(Unreadable, match=r"data/part-0 cannot be read: .*(EIO|botocore says no)"):
        list(SourceReader(Raw(data), "data/part-0").lines())
