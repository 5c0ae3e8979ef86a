"""Lines parsed by several processes, and taken from them in the order of their file: what is published is the same,
however many there are.

Each process has a pipe and at most one batch: whoever sends finds the other one reading, and the death of either ends
the other's next read. The pool of concurrent.futures has one queue for all, whose feeding thread may wait for ever when
a process is killed with a large batch on its way (Python 3.11: once in nine kills).
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator
from itertools import chain, count
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import NamedTuple, TypeAlias

from streamtrain.connectors.lines import Line, Message, batches, messages
from streamtrain.connectors.rows import LineParser

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
        self, numbered: Iterator[Line], parse: LineParser, name: str, file: int
    ) -> Iterator[tuple[int, bytes, Message]]:
        """As lines.messages(). Raises what that raises; ParserDied, after which the next call starts new processes."""
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
            if not self._processes:
                self._processes = [_Process(self._make) for _ in range(self._count)]
            for number, lines in enumerate(chain([first, second], given)):
                process = self._processes[number % self._count]
                done = process.result(name)
                process.give(_Batch(reading, parse.header, name, file, lines))
                yield from _taken(done, parse)
            for process in (*self._processes[(number + 1) % self._count :], *self._processes):
                yield from _taken(process.result(name), parse)
            whole = True
        finally:
            if not whole:  # they are at lines that nobody wants
                self.close()

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
        self._process: BaseProcess = context.Process(target=_parse_batches, args=(theirs, make), daemon=True)
        self._process.start()
        theirs.close()
        self._lines: list[Line] | None = None

    def give(self, batch: _Batch) -> None:
        """After result(). Raises ParserDied."""
        self._lines = batch.lines
        try:
            self._pipe.send(batch)
        except OSError as error:
            raise self._died(batch.name) from error

    def result(self, name: str) -> tuple[list[Line], _Parsed] | None:
        """The lines that it was given, and what became of them; None when it was given none. name: of the file. Raises
        what the parser has raised, ParserDied."""
        if self._lines is None:
            return None
        try:
            found: _Parsed | Exception = self._pipe.recv()
        except (EOFError, OSError) as error:
            raise self._died(name) from error
        if isinstance(found, Exception):
            raise found
        lines, self._lines = self._lines, None
        return lines, found

    def close(self) -> None:
        self._pipe.close()
        self._process.kill()
        self._process.join()
        self._process.close()

    def _died(self, name: str) -> ParserDied:
        self._process.join(5)
        return ParserDied(f"a process that parses lines of {name} has died (exit code {self._process.exitcode})")


def _parse_batches(pipe: Connection, make: MakeParser) -> None:
    """Until the bridge closes its end of the pipe, or ends. The terminal's interrupt is the bridge's own affair."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parse = make()
    reading = -1
    while True:
        try:
            batch: _Batch = pipe.recv()
            if batch.reading != reading:
                reading = batch.reading
                parse.absent.begin()
                if batch.header is not None:
                    parse.begin(batch.name, batch.header)
            pipe.send(_parsed(batch, parse))
        except (EOFError, OSError):
            return


def _parsed(batch: _Batch, parse: LineParser) -> _Parsed | Exception:
    try:
        found = [message for _, _, message in messages(iter(batch.lines), parse, batch.name, batch.file)]
        return _Parsed(found, parse.absent.left)
    except Exception as error:
        return error
