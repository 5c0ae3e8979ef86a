"""Waits that look at the stop's event."""

from __future__ import annotations

import threading

import pytest

from streamtrain.stopping import Stopped, StopWatch


def test_a_call_returns_and_raises_what_the_function_does() -> None:
    watch = StopWatch(threading.Event())
    assert watch.call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        watch.call(divmod, 7, 0)


def test_a_stop_ends_a_call_that_does_not_return() -> None:
    stop, release = threading.Event(), threading.Event()
    with pytest.raises(Stopped):
        StopWatch(stop).call(release.wait, tick=stop.set)
    release.set()
    with pytest.raises(Stopped):
        StopWatch(stop).call(divmod, 7, 2)  # nothing is begun after a stop


def test_what_tick_raises_comes_out() -> None:
    release = threading.Event()

    def tick() -> None:
        raise ValueError

    with pytest.raises(ValueError):
        StopWatch().call(release.wait, tick=tick)
    release.set()


def test_sleep_and_check() -> None:
    stop = threading.Event()
    watch = StopWatch(stop)
    watch.sleep(0.01)
    watch.check()
    stop.set()
    watch.check(grace_s=60)
    with pytest.raises(Stopped):
        watch.check()
    with pytest.raises(Stopped):
        watch.sleep(60)
