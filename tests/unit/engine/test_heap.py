"""Freed memory goes back to the system, and not at each call."""

import time

import pytest

from streamtrain.engine.heap import EVERY_S, Heap


def test_it_is_given_back_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now, asked = [100.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    heap = Heap()
    monkeypatch.setattr(heap, "_trim", asked.append)
    heap.give_back()
    now[0] += EVERY_S
    heap.give_back()
    heap.give_back()
    assert asked == [0]


def test_a_system_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    heap = Heap()
    monkeypatch.setattr(heap, "_trim", None)
    heap._last -= EVERY_S
    heap.give_back()
