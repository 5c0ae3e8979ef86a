"""Lines parsed by several processes, and taken from them in the order of their file: what is published is the same,
however many there are.

Each process has a pipe and at most one batch: whoever sends finds the other one reading, and the death of either ends
the other's next read. The pool of concurrent.futures has one queue for all, whose feeding thread may wait for ever when
a process is killed with a large batch on its way (Python 3.11: once in nine kills).
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from itertools import chain, count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple, TypeAlias

from streamtrain.connectors.lines import Line, Message, batches, messages
from streamtrain.connectors.rows import LineParser
from streamtrain.processes import tie_to
from streamtrain.stopping import SLICE_S

#: Lines that a process gets at once: what it costs to hand them over is little beside parsing them.
_BATCH = 256
#: Can be handed to another process.
MakeParser: TypeAlias = Callable[[], LineParser]


class ParserDied(Exception):
    """A process that parses was killed: what it had was not published."""


class _Batch(NamedTuple):
    """reading: of a file, which the process's parser begins anew. header: LineParser.header. file: its number in the
    split."""

    reading: int
    header: bytes | None
    name: str
    file: int
    lines: list[Line]


class _Parsed(NamedTuple):
    """messages: what becomes of each line. left: the names that none of the file's lines has had so far."""

    messages: list[Message]
    left: tuple[str, ...]


class ParseProcesses:
    """processes: how many parse; 0: this one does. make: gives each of them its parser. They are started with the first
    file of more than a batch, and end with close(), or with this process."""

    def __init__(self, processes: int, make: MakeParser) -> None:
        self._count = processes
        self._make = make
        self._processes: list[_Process] = []
        self._readings = count()

    def messages(
        self,
        numbered: Iterator[Line],
        parse: LineParser,
        name: str,
        file: int,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[int, bytes, Message]]:
        """As lines.messages(). meanwhile: called now and then while processes are waited for. Raises what both raise;
        ParserDied, after which the next call starts new processes."""
        if not self._count:
            yield from messages(numbered, parse, name, file)
            return
        given = batches(numbered, _BATCH)
        first = next(given, [])
        second = next(given, [])
        if not second:
            yield from messages(iter(first), parse, name, file)
            return
        reading = next(self._readings)
        whole = False
        try:
            self._start(name)
            for number, lines in enumerate(chain([first, second], given)):
                process = self._processes[number % self._count]
                done = process.result(name, meanwhile)
                process.give(_Batch(reading, parse.header, name, file, lines))
                yield from _taken(done, parse)
            for process in (*self._processes[(number + 1) % self._count :], *self._processes):
                yield from _taken(process.result(name, meanwhile), parse)
            whole = True
        finally:
            if not whole:  # they are at lines that nobody wants
                self.close()

    def _start(self, name: str) -> None:
        try:
            while len(self._processes) < self._count:
                self._processes.append(_Process(self._make))
        except OSError as error:
            raise ParserDied(f"a process that parses lines of {name} cannot be started: {error}") from error

    def close(self) -> None:
        for process in self._processes:
            process.close()
        self._processes = []


def _taken(done: tuple[list[Line], _Parsed] | None, parse: LineParser) -> Iterator[tuple[int, bytes, Message]]:
    if done is None:
        return
    lines, parsed = done
    parse.absent.keep(parsed.left)
    for (number, line), message in zip(lines, parsed.messages, strict=True):
        yield number, line, message


class _Process:
    """One that parses."""

    def __init__(self, make: MakeParser) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would have the locks of Kafka's threads, without them
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(
            target=_parse_batches, args=(theirs, make, os.getpid()), daemon=True
        )
        # the terminal's interrupt is the bridge's own affair, also before the new process has said so
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._lines: list[Line] | None = None

    def give(self, batch: _Batch) -> None:
        """After result(). Raises ParserDied."""
        self._lines = batch.lines
        try:
            self._pipe.send(batch)
        except OSError as error:
            raise self._died(batch.name) from error

    def result(self, name: str, meanwhile: Callable[[], None]) -> tuple[list[Line], _Parsed] | None:
        """The lines that it was given, and what became of them; None when it was given none. name: of the file. Raises
        what the parser has raised, or meanwhile(); ParserDied."""
        if self._lines is None:
            return None
        while not self._is_there(name):
            meanwhile()
        try:
            found: _Parsed | Exception = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._died(name) from error
        if isinstance(found, Exception):
            raise found
        lines, self._lines = self._lines, None
        return lines, found

    def _is_there(self, name: str) -> bool:
        """Whether the answer, or the end of the pipe, comes within SLICE_S."""
        try:
            return self._pipe.poll(SLICE_S)
        except OSError as error:
            raise self._died(name) from error

    def close(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.join()
        self._process.close()

    def _died(self, name: str) -> ParserDied:
        self._process.join(5)
        return ParserDied(f"a process that parses lines of {name} has died (exit code {self._process.exitcode})")


def _parse_batches(pipe: Connection, make: MakeParser, parent: int) -> None:
    """Until the bridge closes its end of the pipe, or ends."""
    tie_to(parent)()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    parse = _made(make)
    reading = -1
    while True:
        try:
            batch: _Batch = pipe.recv()
            if isinstance(parse, Exception):
                pipe.send(parse)
                continue
            if batch.reading != reading:
                reading = batch.reading
                parse.absent.begin()
                if batch.header is not None:
                    parse.begin(batch.name, batch.header)
            pipe.send(_parsed(batch, parse))
        except (EOFError, OSError):
            return


def _made(make: MakeParser) -> LineParser | Exception:
    """A module of the user's may refuse to be imported a second time."""
    try:
        return make()
    except Exception as error:
        return error


def _parsed(batch: _Batch, parse: LineParser) -> _Parsed | Exception:
    try:
        found = [message for _, _, message in messages(iter(batch.lines), parse, batch.name, batch.file)]
        return _Parsed(found, parse.absent.left)
    except Exception as error:
        return error
