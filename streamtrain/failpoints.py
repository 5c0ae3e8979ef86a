"""Named points where a process can be made to die, freeze or fail: how the two protocols are tested.

Off, a point costs one comparison. On: `STREAMTRAIN_FAILPOINTS="commit.fenced=kill@2,pass.trained=stop"` in a
process's environment, where `kill` is SIGKILL to itself, `stop` SIGSTOP, `error` an OSError as a failing disk
gives it, and `@2` means its second arrival there. With `STREAMTRAIN_FAILPOINTS_DIR` each fires once, in one
process: it leaves a file of its name there first, which says that it fired. With
`STREAMTRAIN_FAILPOINTS_TRACE` every point that is reached leaves a file of its name in that folder.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from streamtrain.errors import ConfigError

ARMED = "STREAMTRAIN_FAILPOINTS"
FOLDER = "STREAMTRAIN_FAILPOINTS_DIR"
TRACE = "STREAMTRAIN_FAILPOINTS_TRACE"
ACTIONS = ("kill", "stop", "error")

#: Every point, in the order in which a job comes by, and what has just happened there.
POINTS = {
    "bridge.begin": "a split's transaction is open, nothing is in it",
    "bridge.row": "a row was handed to the producer",
    "bridge.flushed": "all rows of the split are with the broker, the marker is not",
    "bridge.marked": "the marker is with the broker, the transaction is open",
    "bridge.committed": "the split's transaction is committed, nothing has recorded it yet",
    "restore.fenced": "the trainer before this one is fenced, its staging directory is still in place",
    "restore.cleared": "what the trainer before this one had staged is gone",
    "store.fetched": "the local folder has the checkpoint that the store says, nothing is settled",
    "restore.chosen": "the checkpoint to start from is verified and its commit settled",
    "restore.loaded": "the servers hold the checkpoint",
    "feed.spooled": "a pass's rows are on the local disk",
    "pass.read": "Paddle holds the pass's rows",
    "pass.predicted": "the pass is predicted, not trained",
    "dump.written": "a call's rows are dumped by this worker, in a directory with a dot",
    "dump.aside": "a dump from before a restart is renamed away, the new one is not in its place yet",
    "pass.trained": "the pass is trained, nothing of it is saved",
    "infer.read": "after a pass, this worker's rows of infer_data_dir are on the local disk, none is predicted",
    "day.shrunk": "a day's end: the servers' keys are shrunk, nothing of it is saved",
    "save.staged": "the staging directory is there, empty",
    "save.written": "Paddle has saved the tables",
    "export.staged": "an inference model is staged and fsynced, with its manifest",
    "save.fsync": "a staged file is about to be fsynced",
    "save.sealed": "all staged files are fsynced, there is no manifest",
    "commit.manifest": "the manifest is fsynced, nothing is fenced",
    "store.uploaded": "the attempt's files are on the store, nothing is fenced, no pointer names them",
    "commit.fenced": "the transaction holds the offsets and the digest",
    "store.pointing": "no newer run is known, the pointer is about to be put",
    "store.pointed": "the pointer is on the store, the local folder lacks the checkpoint, the transaction is open",
    "commit.model": "an inference model is in place, no donefile names it",
    "commit.renamed": "the checkpoint is in place, the transaction is open",
    "commit.committed": "the transaction is committed, the donefile is old",
    "store.recorded": "journal and donefile.txt are on the store",
    "commit.done": "the donefile names the checkpoint",
    "rewind.begun": "rewind.json says where to go back to, nothing is set aside",
    "rewind.unlisted": "no donefile names what came later, all of it is in place",
    "rewind.moved": "a later checkpoint is set aside",
    "rewind.settled": "the offsets are those of the checkpoint, rewind.json is still there",
    "pass.recorded": "the pass is in passes.jsonl",
    "server.up": "a server is about to listen",
}


class _Armed:
    """What the environment asks for. Raises ConfigError for what it does not understand."""

    def __init__(self, text: str, folder: str, trace: str) -> None:
        self._folder = Path(folder) if folder else None
        self._trace = Path(trace) if trace else None
        self._arrivals: Counter[str] = Counter()
        self._wanted: dict[str, tuple[str, int]] = {}
        for item in filter(None, text.split(",")):
            name, _, rest = item.partition("=")
            action, _, number = rest.partition("@")
            if name not in POINTS or action not in ACTIONS or not (number or "1").isdigit():
                raise ConfigError(
                    f"{ARMED}: {item!r} is not POINT=ACTION@NUMBER", remedy="`streamtrain failpoints` lists them."
                )
            self._wanted[name] = (action, int(number or 1))

    def arrive(self, name: str) -> None:
        if self._trace is not None:
            (self._trace / name).touch()
        self._arrivals[name] += 1
        action, number = self._wanted.get(name, ("", 0))
        if self._arrivals[name] != number or not self._claim(name):
            return
        if action == "error":
            raise OSError(errno.EIO, f"failpoint {name}")
        os.kill(os.getpid(), signal.SIGKILL if action == "kill" else signal.SIGSTOP)

    def _claim(self, name: str) -> bool:
        """Whether this process is the first that fires there."""
        if self._folder is None:
            return True
        try:
            fd = os.open(self._folder / f"{name}.fired", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        os.write(fd, str(os.getpid()).encode())
        os.close(fd)
        return True


#: Whether the environment, or intercepted(), asks for anything: a point that is off costs a comparison.
_on = bool(os.environ.get(ARMED) or os.environ.get(TRACE))
_callback: Callable[[str], None] | None = None


@functools.cache
def _armed() -> _Armed:
    return _Armed(os.environ.get(ARMED, ""), os.environ.get(FOLDER, ""), os.environ.get(TRACE, ""))


def read_environment() -> None:
    """Once more, for a process whose environment has changed since this module was imported."""
    global _on
    _on = bool(os.environ.get(ARMED) or os.environ.get(TRACE))
    _armed.cache_clear()


def failpoint(name: str) -> None:
    """Here `name` is reached: nothing, unless the environment asks for it."""
    if _on:
        arrive = _armed().arrive if _callback is None else _callback
        arrive(name)


@contextlib.contextmanager
def intercepted(callback: Callable[[str], None]) -> Iterator[None]:
    """For tests within one process: each point calls callback(name), in whatever thread it is reached, in place of what
    the environment asks for."""
    global _on, _callback
    before = (_on, _callback)
    _on, _callback = True, callback
    try:
        yield
    finally:
        _on, _callback = before
