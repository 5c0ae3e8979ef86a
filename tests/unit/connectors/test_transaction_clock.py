import pytest

from streamtrain.connectors.transaction_clock import Overrun, TransactionClock


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def overrun(steps: list[float], waits: list[float]) -> Overrun | None:
    now = Clock()
    clock = TransactionClock(10, now)
    for step in steps:
        now.time += step
        clock.tick()
    for wait in waits:
        with clock.waiting():
            now.time += wait
    try:
        clock.check("it")
    except Overrun as error:
        return error
    return None


def test_within_the_time_nothing_is_said() -> None:
    assert overrun([1.0] * 9, [0.5]) is None


@pytest.mark.parametrize(
    ("steps", "waits", "cause"),
    [([1.0] * 11, [], "work"), ([0.1] * 10, [10.0], "kafka"), ([0.1, 30.0], [], "still"), ([2.0] * 5, [1.0], "work")],
    ids=["slow lines", "Kafka was away", "the process was stopped", "a little of both"],
)
def test_the_cause_is_told(steps: list[float], waits: list[float], cause: str) -> None:
    error = overrun(steps, waits)
    assert error is not None and error.cause == cause
    assert "kafka.transaction.timeout.ms (10000)" in str(error)
