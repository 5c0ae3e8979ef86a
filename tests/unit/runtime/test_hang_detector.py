"""The hang detector: what is a hang, and what is only slow."""

import pytest

from streamtrain.contracts.phases import PREDICTING, SAVING, WAITING
from streamtrain.runtime.hang_detector import PATIENCE_S, STOPPED_S, HangDetector, RoleSample


def role(name: str, cpu: float, **changes: object) -> RoleSample:
    values = {"stopped": False, "running": False, "phase": "", "healthy": None, **changes}
    return RoleSample(name, cpu=cpu, **values)  # type: ignore[arg-type]


def first_reason(samples: object, seconds: float = 30, step: float = 1.0) -> tuple[float, str]:
    """When and why it says that a role hangs; samples(time) gives all roles."""
    detector = HangDetector()
    now = 0.0
    while now < seconds:
        if reason := detector.check(now, samples(now)):  # type: ignore[operator]
            return now, reason
        now += step
    return seconds, ""


def test_a_stopped_process_is_frozen() -> None:
    at, reason = first_reason(lambda t: [role("worker 0", t, stopped=t >= 5, phase=PREDICTING)])
    assert reason == "worker 0 is frozen (its process is stopped)"
    assert 5 + STOPPED_S <= at <= 5 + STOPPED_S + 2


def test_a_process_stopped_for_a_moment_is_not() -> None:
    assert not first_reason(lambda t: [role("worker 0", t, stopped=int(t) % 4 != 0, phase=WAITING)])[1]


def test_a_server_that_does_not_answer_and_does_nothing_hangs() -> None:
    at, reason = first_reason(lambda t: [role("server 1", min(t, 9), healthy=t < 9)])
    assert "server 1 hangs: no answer on its endpoint" in reason
    assert 9 + PATIENCE_S <= at <= 9 + PATIENCE_S + 2


@pytest.mark.parametrize("busy", [{"cpu": 1.0}, {"running": True}])
def test_a_server_too_busy_to_answer_does_not(busy: dict[str, float]) -> None:
    running = bool(busy.get("running"))
    assert not first_reason(lambda t: [role("server 0", t * busy.get("cpu", 0), healthy=False, running=running)])[1]


def test_a_server_that_has_not_answered_yet_is_only_starting() -> None:
    assert not first_reason(lambda _t: [role("server 0", 0.1, healthy=None)])[1]


def test_all_idle_in_the_middle_of_work_hang() -> None:
    idle = lambda t: [role("server 0", 1 + t / 200, healthy=True), role("worker 0", 5 + t / 100, phase=PREDICTING)]  # noqa: E731
    at, reason = first_reason(idle)
    assert "all roles have been idle" in reason and PREDICTING in reason
    assert at <= PATIENCE_S + 2


@pytest.mark.parametrize("phase", [WAITING, SAVING])
def test_idle_workers_that_wait_or_save_do_not(phase: str) -> None:
    assert not first_reason(lambda _t: [role("server 0", 1, healthy=True), role("worker 0", 5, phase=phase)])[1]


def test_one_worker_that_works_keeps_the_others_waiting() -> None:
    both = lambda t: [role("worker 0", t, phase=PREDICTING), role("worker 1", 5, phase=PREDICTING)]  # noqa: E731
    assert not first_reason(both)[1]


def test_a_gap_between_two_looks_is_no_hang() -> None:
    """The detector itself may be frozen along with all roles: what they used meanwhile is not known."""
    detector = HangDetector()
    assert not detector.check(0, [role("worker 0", 1, phase=PREDICTING)])
    assert not detector.check(100, [role("worker 0", 1, phase=PREDICTING)])
    assert not detector.check(101, [role("worker 0", 1.5, phase=PREDICTING)])
