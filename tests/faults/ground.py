"""Where a fault happens, what came of it, and the register of all cases."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.scene import Figures, Scene


@dataclass
class Ground:
    """A folder and a Kafka, a topology; the scenes that a case plays there."""

    folder: Path
    kafka: dict[str, str]
    job: str
    servers: int = 1
    workers: int = 1
    scenes: list[Scene] = field(default_factory=list)

    def scene(self, name: str = "job", kafka: dict[str, str] | None = None, **changes: Any) -> Scene:
        if self.workers > 1:  # restarts take spare roles with one topology, and start their own with the other
            changes["stream"] = {"spare_roles_after": 2, **changes.get("stream", {})}
        made = Scene(
            self.folder / name, kafka if kafka is not None else self.kafka, f"{self.job}-{name}",
            self.servers, self.workers, **changes,
        )  # fmt: skip
        self.scenes.append(made)
        return made

    def figures(self) -> Figures | None:
        """The sum of what the scenes' recounts have measured; None when none of them has recounted."""
        measured = [figures for scene in self.scenes for figures in scene.measured]
        if not measured:
            return None
        return Figures(sum(f.lost for f in measured), sum(f.duplicated for f in measured))

    def close(self) -> None:
        for scene in self.scenes:
            scene.close()


@dataclass
class Outcome:
    """What was seen: in words; seconds from each fault to the first row trained (or split bridged) after it."""

    text: str
    recoveries: list[float] = field(default_factory=list)
    kills: int = 0


def recoveries(*seconds: float | None) -> list[float]:
    """Those that are known: after some faults nothing was left to train or to bridge."""
    return [s for s in seconds if s is not None]


@dataclass(frozen=True)
class Case:
    """topologies: 2 when the fault is tried with 1x1 and 2x2, 1 when servers and workers play no part."""

    row: str
    name: str
    run: Callable[[Ground], Outcome]
    topologies: int
    fast: bool
    needs: str

    @property
    def id(self) -> str:
        return f"{self.row}-" + "-".join(re.findall(r"\w+", self.name))


REGISTERED: list[Case] = []


def case(
    row: str, name: str, *, topologies: int = 2, fast: bool = False, needs: str = ""
) -> Callable[[Callable[[Ground], Outcome]], Callable[[Ground], Outcome]]:
    def register(run: Callable[[Ground], Outcome]) -> Callable[[Ground], Outcome]:
        REGISTERED.append(Case(row, name, run, topologies, fast, needs))
        return run

    return register
