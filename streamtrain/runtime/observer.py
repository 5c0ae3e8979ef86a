"""Samples of this machine's roles, for the hang detector."""

from __future__ import annotations

import http.client
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil

from streamtrain.engine.server_http import ask
from streamtrain.runtime.child_state import ChildState
from streamtrain.runtime.hang_detector import RoleSample

ANSWER_S = 1.0
#: A process that the disk or the processor keeps from waiting for another role.
_RUNNING = (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)


class Observer:
    """Remembers which servers have answered: before its first answer a server is only starting."""

    def __init__(self) -> None:
        self._answered: set[str] = set()

    def sample(self, states: Sequence[ChildState]) -> list[RoleSample]:
        """A sample of each role that runs; a server is asked on its endpoint, ANSWER_S seconds at most."""
        running = [s for s in states if s.state == "running"]
        endpoints = [s.endpoint for s in running if s.endpoint]
        with ThreadPoolExecutor(max(1, len(endpoints))) as pool:
            answers = dict(zip(endpoints, pool.map(answers_health, endpoints), strict=True))
        self._answered |= {endpoint for endpoint, answered in answers.items() if answered}
        samples = []
        for state in running:
            try:
                process = psutil.Process(state.pid)
                times, status = process.cpu_times(), process.status()
            except psutil.Error:
                continue  # dead: the parent checks for that by itself
            samples.append(
                RoleSample(
                    state.name,
                    stopped=status == psutil.STATUS_STOPPED,
                    running=status in _RUNNING,
                    cpu=times.user + times.system,
                    phase=state.phase,
                    healthy=answers[state.endpoint] if state.endpoint in self._answered else None,
                )
            )
        return samples


def answers_health(endpoint: str) -> bool:
    """Whether Paddle's server there answers OK: its RPC library serves /health on the same port."""
    try:
        status, text = ask(endpoint, "/health", timeout_s=ANSWER_S)
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return status == http.client.OK and text.startswith("OK")
