"""Processes that parse: what they raise, and a wait that is ended. Order and kills are in tests/jobs."""

import time
from functools import partial

import psutil
import pytest

from streamtrain.connectors.formats import line_parser
from streamtrain.connectors.parse_processes import ParseProcesses
from streamtrain.connectors.rows import LineParser
from streamtrain.contracts.row_layout import RowLayout
from streamtrain.errors import ConfigError

LINES = [(number, b"1:1 5:2") for number in range(1, 601)]
LAYOUT = RowLayout((2,))


def refuses() -> LineParser:
    raise ConfigError("stream.format: it is imported once alone", remedy="Set stream.parse_processes: 0.")


def test_a_parser_that_cannot_be_made() -> None:
    pool = ParseProcesses(2, refuses)
    with pytest.raises(ConfigError, match="once alone") as caught:
        list(pool.messages(iter(LINES), line_parser("feasign_slot", LAYOUT), "part-0", 0))
    assert "parse_processes: 0" in caught.value.remedy
    assert not pool._processes


def test_a_wait_that_is_ended() -> None:
    make = partial(line_parser, "tests.support.odd_formats:slow", LAYOUT)
    pool = ParseProcesses(1, make)
    children: list[psutil.Process] = []

    def meanwhile() -> None:
        children.extend(psutil.Process().children(recursive=True))
        raise TimeoutError

    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        list(pool.messages(iter(LINES), make(), "part-0", 0, meanwhile))
    assert time.monotonic() - begin < 256 * 0.05  # what the batch takes
    assert children and not pool._processes
    assert not [c for c in children if c.is_running() and "spawn_main" in " ".join(c.cmdline())]
