"""The spool: a folder a process, cleared of those that have ended; refusals name stream.spool_dir."""

import subprocess
import sys
from pathlib import Path

import pytest

from streamtrain.errors import DiskError
from streamtrain.feed.spool import Spool

HOLD = """
import os, pathlib, signal, sys
from streamtrain.feed.spool import Spool
spool = Spool(pathlib.Path(sys.argv[1]))
with spool.writer("pass.txt") as (path, out):
    out.write(b"rows")
print(path, flush=True)
os.kill(os.getpid(), signal.SIGKILL if sys.argv[2] == "die" else signal.SIGSTOP)
"""


def test_what_is_written_is_there_until_the_end(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with spool.writer("pass.txt") as (path, out):
        out.write(b"rows")
    assert path.read_bytes() == b"rows"
    assert not list(spool.empty("dump").iterdir())
    spool.close()
    assert not path.exists() and not list(tmp_path.iterdir())


def test_a_living_process_keeps_its_folder_and_a_dead_one_does_not(tmp_path: Path) -> None:
    paths = {}
    running = []
    for way in ("live", "die"):
        process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path), way], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        paths[way] = Path(process.stdout.readline().strip())
        running.append(process)
    running[1].wait(30)
    try:
        Spool(tmp_path).close()
        assert paths["live"].read_bytes() == b"rows" and not paths["die"].exists()
    finally:
        running[0].kill()
        running[0].wait(30)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("in the way")
    with pytest.raises(DiskError, match=r"spool \(stream.spool_dir\) cannot be written.*set stream.spool_dir"):
        Spool(tmp_path / "spool")
