"""Samples of this machine's roles for the hang watch."""

from __future__ import annotations

import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psutil

from streamtrain.runtime.hang_detector import Sample
from streamtrain.runtime.role_state import RoleState

ANSWER_S = 1.0
#: A process that the disk or the processor keeps from waiting for another role.
_RUNNING = (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP)


class Sampler:
    """Remembers which servers have answered: before its first answer a server is only starting."""

    def __init__(self) -> None:
        self._answered: set[str] = set()

    def take(self, states: Sequence[RoleState]) -> list[Sample]:
        """A sample of each role that runs; a server is asked on its endpoint, ANSWER_S seconds at most."""
        running = [s for s in states if s.state == "running"]
        endpoints = [s.endpoint for s in running if s.endpoint]
        with ThreadPoolExecutor(max(1, len(endpoints))) as pool:
            answers = dict(zip(endpoints, pool.map(answers_health, endpoints), strict=True))
        self._answered |= {endpoint for endpoint, answered in answers.items() if answered}
        found = []
        for state in running:
            try:
                process = psutil.Process(state.pid)
                times, status = process.cpu_times(), process.status()
            except psutil.Error:
                continue  # dead: that is seen elsewhere
            healthy = answers[state.endpoint] if state.endpoint in self._answered else None
            found.append(
                Sample(
                    f"{state.kind} {state.index}",
                    status == psutil.STATUS_STOPPED,
                    status in _RUNNING,
                    times.user + times.system,
                    state.phase,
                    healthy,
                )
            )
        return found


def answers_health(endpoint: str) -> bool:
    """Whether Paddle's server there says OK: its RPC library answers /health on the same port."""
    try:
        with urllib.request.urlopen(f"http://{endpoint}/health", timeout=ANSWER_S) as response:
            return bool(response.read(2) == b"OK")
    except (OSError, ValueError):
        return False
