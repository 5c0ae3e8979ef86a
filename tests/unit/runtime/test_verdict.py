"""Every way in which a run of all roles ends, and the pause before the next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.contracts import phases
from streamtrain.errors import FINAL, Fenced, TrainingError
from streamtrain.runtime.child_state import ChildState
from streamtrain.runtime.verdict import (
    JITTER_S,
    LONGEST_PAUSE_S,
    QUIET_S,
    START_S,
    STOP_S,
    Observed,
    Verdict,
    is_quiet,
    judge,
    pause_before_restart,
)


def role(kind: str, index: int, state: str = "running", **more: object) -> ChildState:
    pid = 100 * (kind == "server") + index
    return ChildState(kind, index, pid, state, **more)  # type: ignore[arg-type]


UP = [role("server", 0), role("server", 1), role("worker", 0), role("worker", 1)]
SERVERS = UP[:2]


def verdict(states: list[ChildState], **more: object) -> Verdict | None:
    return judge(Observed(states, **more), 2, 2)  # type: ignore[arg-type]


def test_it_goes_on_while_all_run() -> None:
    assert verdict(UP, elapsed=1e6) is None
    assert verdict([], elapsed=START_S) is None
    assert verdict([*SERVERS, role("worker", 0, "done"), role("worker", 1)]) is None


def test_all_workers_done_is_a_good_end_whatever_the_servers_do() -> None:
    done = [role("worker", 0, "done"), role("worker", 1, "done")]
    assert verdict([*SERVERS, *done]) == Verdict(True)
    assert verdict([*SERVERS, *done], dead={100, 101}) == Verdict(True)


def test_a_stop_that_nobody_asked_for_is_no_good_end() -> None:
    """Whoever sends SIGTERM to the workers when a server dies: they may end before the death is seen."""
    ended = [role("worker", 0, "done"), role("worker", 1, "done", stopped=True)]
    found = verdict([*SERVERS, *ended], dead={100})
    assert found is not None and not found.done and "worker 1 was stopped by a signal" in found.reason
    assert "after server 0 (process 100) died" in found.reason
    assert verdict([*SERVERS, *ended], stopping=0.1) == Verdict(True)


def test_the_first_failure_by_time_is_the_reason() -> None:
    late = role("server", 0, "failed", exit_code=6, message="its peer was gone", time=5.0)
    first = role("worker", 1, "failed", exit_code=6, message="the disk is full", time=4.0)
    assert verdict([late, SERVERS[1], UP[2], first]) == Verdict(False, "worker 1: the disk is full")


@pytest.mark.parametrize("code", [Fenced.exit_code, TrainingError.exit_code, 1, 3])
def test_only_an_error_that_a_restart_cannot_fix_is_final(code: int) -> None:
    failed = role("worker", 0, "failed", exit_code=code, message="m")
    found = verdict([*SERVERS, failed, UP[3]])
    assert found is not None and found.failed == (failed if code in FINAL else None)


def test_a_failure_counts_more_than_a_death_and_a_death_more_than_a_hang() -> None:
    failed = role("worker", 0, "failed", exit_code=6, message="m")
    found = verdict([*SERVERS, failed, UP[3]], dead={1}, hang="h")
    assert found == Verdict(False, "worker 0: m")
    assert verdict(UP, dead={1}, hang="h") == Verdict(False, "worker 1 (process 1) died")
    assert verdict(UP, hang="worker 1 hangs") == Verdict(False, "worker 1 hangs")


def test_a_dead_worker_is_named_before_the_server_that_ended_after_it() -> None:
    assert verdict(UP, dead={100, 0}) == Verdict(False, "worker 0 (process 0) died")
    assert verdict(UP, dead={101}) == Verdict(False, "server 1 (process 101) died")


def test_a_role_that_has_ended_well_is_not_dead() -> None:
    assert verdict([*SERVERS, role("worker", 0, "done"), UP[3]], dead={0}) is None


def test_a_role_that_ends_before_it_has_reported_anything() -> None:
    found = verdict([*SERVERS, UP[2]], unreported={"worker 1": 1})
    assert found == Verdict(False, "worker 1 ended with exit code 1 before it had begun")
    found = verdict(UP[1:], unreported={"server 0": -9})
    assert found == Verdict(False, "server 0 was killed (SIGKILL) before it had begun")


def test_roles_that_do_not_come_up() -> None:
    assert verdict(UP[:3], elapsed=START_S) is None
    assert verdict(UP[:3], elapsed=START_S + 1) == Verdict(False, "not all roles came up within 120 s")


def test_a_stop() -> None:
    assert verdict(UP, stopping=STOP_S) is None
    assert verdict(UP, stopping=STOP_S + 1) == Verdict(False, "the workers did not end within 60 s")
    assert verdict(UP, stopping=1.0, quiet=QUIET_S) is None
    assert verdict(UP, stopping=4.0, quiet=QUIET_S + 1) == Verdict(False, "stopped while nothing was worked on")
    assert verdict(UP, dead={100}, stopping=1.0) == Verdict(False, "a role died while the workers were asked to end")
    failed = role("worker", 0, "failed", exit_code=3, message="a bad row")
    assert verdict([*SERVERS, failed, UP[3]], stopping=1.0) == Verdict(False, "worker 0: a bad row", failed)


def test_a_stop_while_a_worker_imports_paddle_ends_all_at_once() -> None:
    at_once = Verdict(False, "stopped before the workers had begun")
    training, starting = role("worker", 0, phase=phases.TRAINING), role("worker", 1, phase=phases.STARTING)
    assert verdict(SERVERS, stopping=0.0) == at_once
    assert verdict([*SERVERS, training], stopping=0.0) == at_once
    assert verdict([*SERVERS, training, starting], stopping=0.0) == at_once
    assert verdict([*SERVERS, training, starting]) is None
    assert verdict([*SERVERS, training, role("worker", 1, "done")], stopping=0.0) is None


def test_worker_0_alone_tells_whether_anything_is_worked_on() -> None:
    assert is_quiet(f"{phases.WAITING} Kafka at h:1", done=False) and is_quiet(phases.SAVING, done=True)
    for phase in (
        phases.STARTING,
        phases.LOADING,
        phases.TRAINING,
        phases.SAVING,
        "",
        f"{phases.WAITING} pass 1's splits",
    ):
        assert not is_quiet(phase, done=False)


@given(st.integers(1, 10_000))
def test_the_pause_grows_to_half_a_minute(fruitless: int) -> None:
    pause = pause_before_restart(fruitless)
    assert min(LONGEST_PAUSE_S, 0.5 * 2 ** min(fruitless - 1, 20)) <= pause <= LONGEST_PAUSE_S + JITTER_S


def test_no_pause_after_a_pass_that_was_not_reached_before() -> None:
    assert pause_before_restart(0) == 0
