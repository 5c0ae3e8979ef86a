"""Files between machines that share no disk, through the job's store: what servers have saved on their machines, for
worker 0; what worker 0 has prepared for the servers to load.

A server reads and writes paths that worker 0 names, each on its own machine. So worker 0's role asks, its agent sends
the request to the rendezvous with its beats, the agent of each server does it there, and the answer comes back the same
way:

    exchange.request    role -> agent, in the run's folder    number, kind, directory, prefix, token
    exchange.answer     agent -> role                         number, problem

A server on worker 0's own disk finds the request's token in the directory, and has nothing to do. Of several servers on
one other disk the first one does it, the others find it done. The next round removes what one that was killed leaves on
the store (checkpoint/remote_retention.py).
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, TypeAdapter, ValidationError

from streamtrain.checkpoint.runs import STAGING
from streamtrain.contracts.pointer import EXCHANGE
from streamtrain.errors import CheckpointError, StreamtrainError
from streamtrain.files import atomic_write, locked
from streamtrain.object_store import ObjectStore

log = logging.getLogger("streamtrain.exchange")

REQUEST, ANSWER = "exchange.request", "exchange.answer"
_TOKEN = ".token-"
#: Begins the name of a file in a directory that a request has filled.
_FILLED = ".filled-"
#: Seconds between two looks for an answer.
LOOK_S = 0.05


@dataclass(frozen=True)
class Request:
    """gather: what is in `directory` goes to the store, and leaves the machine. scatter: `directory` gets what is on
    the store. drop: `directory` is removed."""

    number: int
    kind: Literal["gather", "scatter", "drop"]
    directory: str
    prefix: Annotated[str, Field(pattern=rf"^{EXCHANGE}/[0-9a-f]{{32}}/[0-9]+$")]
    token: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


@dataclass(frozen=True)
class Answer:
    """problem: '' when all servers' machines have done it."""

    number: int
    problem: str = ""


_REQUEST = TypeAdapter(Request)
_ANSWER = TypeAdapter(Answer)


class Exchange:
    """Worker 0's role. Its methods return when the machines of all servers have done it; CheckpointError otherwise.

    run_dir: the run's folder, which its agent looks into. waiting(): around each wait; then no role may use a
    processor for long, which is no hang.
    """

    def __init__(
        self, run_dir: Path, objects: ObjectStore, waiting: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._waiting = waiting
        self._run_dir = run_dir
        self._objects = objects
        self._number = 0
        self._token = uuid.uuid4().hex

    def gather(self, directory: Path) -> None:
        """`directory` has what the servers have written to it, each on its machine."""
        directory.mkdir(parents=True, exist_ok=True)
        with self._waiting(), self._token_in(directory):
            prefix = self._ask("gather", directory)
            for name in self._objects.objects(prefix):
                (directory / name).parent.mkdir(parents=True, exist_ok=True)
                self._objects.get_file(f"{prefix}/{name}", directory / name)
            self._objects.delete_all(prefix)

    def scatter(self, directory: Path) -> None:
        """The machine of each server has a copy of `directory`, until it is dropped."""
        prefix = self._prefix(self._number + 1)
        files = [file for file in sorted(directory.rglob("*")) if file.is_file()]
        with self._waiting():
            self._objects.put_files((f"{prefix}/{file.relative_to(directory).as_posix()}", file) for file in files)
            with self._token_in(directory):
                self._ask("scatter", directory)
            self._objects.delete_all(prefix)

    def drop(self, directory: Path) -> None:
        """The machines of the servers have no such directory; worker 0's own keeps it."""
        directory.mkdir(parents=True, exist_ok=True)
        with self._waiting(), self._token_in(directory):
            self._ask("drop", directory)

    def _prefix(self, number: int) -> str:
        return f"{EXCHANGE}/{self._token}/{number}"

    def _ask(self, kind: Literal["gather", "scatter", "drop"], directory: Path) -> str:
        self._number += 1
        request = Request(self._number, kind, str(directory), self._prefix(self._number), self._token)
        atomic_write(self._run_dir / REQUEST, orjson.dumps(asdict(request)))
        while True:
            with contextlib.suppress(FileNotFoundError):
                answer = _ANSWER.validate_json((self._run_dir / ANSWER).read_bytes())
                if answer.number == request.number:
                    break
            time.sleep(LOOK_S)
        if answer.problem:
            raise CheckpointError(f"{kind} of {directory}: {answer.problem}")
        return request.prefix

    @contextlib.contextmanager
    def _token_in(self, directory: Path) -> Iterator[None]:
        token = directory / f"{_TOKEN}{self._token}"
        token.touch()
        try:
            yield
        finally:
            token.unlink(missing_ok=True)


def requested(run_dir: Path) -> dict[str, Any] | None:
    """For worker 0's agent: what its role asks for, to be sent; None when it has asked for nothing."""
    try:
        return asdict(_REQUEST.validate_json((run_dir / REQUEST).read_bytes()))
    except (FileNotFoundError, ValidationError):
        return None


def answer(run_dir: Path, message: dict[str, Any]) -> None:
    """For worker 0's agent: what the rendezvous says that the servers' machines have done."""
    atomic_write(run_dir / ANSWER, orjson.dumps(asdict(_ANSWER.validate_python(message))))


class Machine:
    """The agent of a server: does what worker 0 asks, once. root: the job's local folder, below which all of it is."""

    def __init__(self, root: Path, objects: ObjectStore) -> None:
        self._root = root
        self._objects = objects
        #: The last request that was done, as it is sent.
        self.done: dict[str, Any] | None = None

    def perform(self, message: dict[str, Any]) -> None:
        """Blocks. A failure is part of `done`."""
        try:
            request = _REQUEST.validate_python(message)
        except ValidationError as error:
            log.warning("a request that this version does not know: %s", error)
            return
        if self.done is not None and self.done["number"] == request.number:
            return
        problem = ""
        try:
            self._perform(request)
        except (StreamtrainError, OSError) as error:
            problem = str(error)
            log.error("%s of %s: %s", request.kind, request.directory, problem)
        self.done = asdict(Answer(request.number, problem))

    def _clear_older(self, directory: Path) -> None:
        """What a server that was killed has left of earlier runs: nobody on this disk needs it."""
        staging = self._root / STAGING
        for left in staging.iterdir() if staging in directory.parents and staging.is_dir() else ():
            if left != directory and left not in directory.parents:
                shutil.rmtree(left, ignore_errors=True)

    def _perform(self, request: Request) -> None:
        directory = Path(request.directory)
        if ".." in directory.parts or self._root not in directory.parents:
            raise CheckpointError(
                f"{directory} is not below this machine's {self._root}",
                remedy="The config must lie at the same path on each machine, with the same model_save_path.",
            )
        if (directory / f"{_TOKEN}{request.token}").exists():
            return  # worker 0's own disk
        with self._alone():
            self._clear_older(directory)
            if request.kind == "scatter":
                self._fill(directory, request)
            else:
                self._empty(directory, request)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One agent at a time, of those whose servers are on this disk; where it cannot be locked, all of them."""
        self._root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with locked(descriptor):
            yield

    def _fill(self, directory: Path, request: Request) -> None:
        filled = directory / f"{_FILLED}{request.token}-{request.number}"
        if filled.exists():
            return
        shutil.rmtree(directory, ignore_errors=True)
        for name in self._objects.objects(request.prefix):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            self._objects.get_file(f"{request.prefix}/{name}", directory / name)
        directory.mkdir(parents=True, exist_ok=True)
        filled.touch()

    def _empty(self, directory: Path, request: Request) -> None:
        if request.kind == "gather":
            files = [file for file in sorted(directory.rglob("*")) if file.is_file()]
            self._objects.put_files(
                (f"{request.prefix}/{file.relative_to(directory).as_posix()}", file) for file in files
            )
        shutil.rmtree(directory, ignore_errors=True)
        for parent in directory.parents:
            if parent == self._root:
                break
            with contextlib.suppress(OSError):
                parent.rmdir()
