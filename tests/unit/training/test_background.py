"""What goes on beside the trainer: it is waited for, and its errors arrive."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from streamtrain.errors import CheckpointError, Fenced
from streamtrain.training.background import Background, Stopwatch


class Tables:
    def __init__(self, error: Exception | None = None) -> None:
        self.written = threading.Event()
        self._error = error

    def wait_for_tables(self) -> None:
        assert self.written.wait(30)
        if self._error is not None:
            raise self._error


def test_the_trainer_waits_for_the_tables_and_then_for_the_work() -> None:
    tables, work, held = Tables(), Future[str](), Stopwatch()
    background = Background(tables, work, held)
    assert not background.done
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(background.wait_for_tables)
        while not held.seconds:
            assert not waiting.done()
        tables.written.set()
        waiting.result(30)
        before = held.seconds
        assert before > 0
        waiting_for_all = pool.submit(background.result)
        while held.seconds == before:
            assert not waiting_for_all.done()
        work.set_result("committed")
        assert waiting_for_all.result(30) == "committed"
    assert background.done and held.seconds > before


def test_errors_arrive_where_they_are_waited_for() -> None:
    tables, work = Tables(CheckpointError("the disk is full")), Future[str]()
    tables.written.set()
    background = Background(tables, work, Stopwatch())
    with pytest.raises(CheckpointError, match="the disk is full"):
        background.wait_for_tables()
    work.set_exception(Fenced("a newer trainer"))
    assert background.give_time(30) == "a newer trainer"
    with pytest.raises(Fenced):
        background.result()


def test_time_that_is_given_ends() -> None:
    assert "not committed within" in Background(Tables(), Future[str](), Stopwatch()).give_time(0.01)
    work = Future[str]()
    work.set_result("committed")
    assert Background(Tables(), work, Stopwatch()).give_time(30) == ""
