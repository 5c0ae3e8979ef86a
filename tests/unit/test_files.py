"""Local files: replaced atomically, hashed; refusals that name the file and say what to do."""

import errno
import hashlib
import io
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain import files
from streamtrain.errors import DiskError


def test_readers_see_the_old_content_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "state"
    contents = [b"a" * 100_000, b"b" * 200_000]
    files.atomic_write(path, contents[0])
    done = threading.Event()

    def write() -> None:
        for number in range(200):
            files.atomic_write(path, contents[number % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not done.is_set():
        assert path.read_bytes() in contents
    writer.join()
    assert [p.name for p in tmp_path.iterdir()] == ["state"]


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "state"
    files.atomic_write(path, b"old", sync=True)
    with pytest.raises(OSError, match="No such file"):
        files.atomic_write(path, b"new", temporary=tmp_path / "missing" / "new")
    assert path.read_bytes() == b"old"


@given(st.binary(max_size=3_000_000))
def test_the_digest_is_that_of_all_bytes(data: bytes) -> None:
    assert files.sha256(io.BytesIO(data)) == hashlib.sha256(data).hexdigest()


def test_a_files_digest(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"text")
    assert files.sha256(tmp_path / "x") == hashlib.sha256(b"text").hexdigest()


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENOSPC, "Free space"), (errno.EDQUOT, "Free space"), (errno.EACCES, "Check rights")]
)
def test_what_the_file_system_refuses(number: int, remedy: str, tmp_path: Path) -> None:
    with (
        pytest.raises(DiskError) as caught,
        files.refusals(DiskError, tmp_path, "cannot be written", remedy="Check rights.", full="Free space."),
    ):
        raise OSError(number, "why", str(tmp_path / "part"))
    assert str(caught.value) == f"{tmp_path} cannot be written: {tmp_path / 'part'}: why. {remedy}."
