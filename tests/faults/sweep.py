"""`make faults`: every fault, with 1x1 and 2x2, against real Kafka and real Paddle; a table in build/."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

from streamtrain.kafka.embedded import EmbeddedBroker
from tests.faults.cases import CASES
from tests.faults.ground import Case, Ground, Outcome
from tests.support.scene import can_mount

TOPOLOGIES = ((1, 1), (2, 2))


@dataclass
class Line:
    """One row of the table. lost, duplicated: as the case's recounts have measured them; None without a recount."""

    row: str
    fault: str
    topology: str
    ok: bool
    outcome: str
    kills: int = 0
    recoveries: list[float] = field(default_factory=list)
    lost: int | None = None
    duplicated: int | None = None
    seconds: float = 0.0


def missing(case: Case) -> str:
    """What the case needs and this machine lacks; '' when nothing."""
    if case.needs == "tmpfs" and not can_mount():
        return "a tmpfs cannot be mounted here"
    if case.needs == "strace" and shutil.which("strace") is None:
        return "strace is not installed"
    return ""


def make_ground(folder: Path, kafka: dict[str, str], servers: int, workers: int) -> Ground:
    folder.mkdir(parents=True, exist_ok=True)
    return Ground(folder, kafka, f"f{os.getpid()}-{time.time_ns() % 10**9}", servers, workers)


def run_case(case: Case, ground: Ground) -> Outcome:
    """Raises AssertionError, or whatever went wrong, when the outcome is not what it must be."""
    try:
        return case.run(ground)
    finally:
        ground.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a row, or how a case's id begins, such as 11-killed")
    parser.add_argument("--topology", default="", help="1x1 or 2x2")
    parser.add_argument("--build", type=Path, default=Path("build"), help="folder of faults.md and faults.json")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    lines: list[Line] = []
    begin = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="streamtrain-faults-") as top,
        EmbeddedBroker(Path(top) / "kafka") as broker,
    ):
        for case in CASES:
            if not case.id.startswith(arguments.only) and arguments.only != case.row:
                continue
            for servers, workers in TOPOLOGIES[: case.topologies]:
                topology = f"{servers}x{workers}" if case.topologies > 1 else "-"
                if arguments.topology not in topology and case.topologies > 1:
                    continue
                line = _run(case, Path(top) / f"{case.id}-{topology}", broker, servers, workers, topology)
                lines.append(line)
                print(summary(line), flush=True)
    if not lines:
        raise SystemExit(f"no case is {arguments.only} [{arguments.topology}]")
    arguments.build.mkdir(parents=True, exist_ok=True)
    total = time.monotonic() - begin
    (arguments.build / "faults.md").write_text(markdown(lines, total))
    (arguments.build / "faults.json").write_text(json.dumps([asdict(x) for x in lines], indent=2) + "\n")
    print(markdown(lines, total))
    return 0 if all(line.ok for line in lines) else 1


def _run(case: Case, folder: Path, broker: EmbeddedBroker, servers: int, workers: int, topology: str) -> Line:
    line = Line(case.row, case.name, topology, False, "")
    begin = time.monotonic()
    if why := missing(case):
        line.outcome = f"not run: {why}"
        return line
    ground = make_ground(folder, {"bootstrap.servers": broker.bootstrap}, servers, workers)
    try:
        outcome = run_case(case, ground)
        line.ok, line.outcome, line.recoveries, line.kills = True, outcome.text, outcome.recoveries, outcome.kills
        shutil.rmtree(folder, ignore_errors=True)
    except Exception as error:
        line.outcome = f"{type(error).__name__}: {str(error)[:300]}"
        traceback.print_exc()
        kept = Path(tempfile.mkdtemp(prefix="streamtrain-failed-"))
        shutil.copytree(folder, kept / "case", ignore_dangling_symlinks=True, dirs_exist_ok=True)
        print(f"its folder: {kept}", file=sys.stderr)
    if (figures := ground.figures()) is not None:
        line.lost, line.duplicated = figures.lost, figures.duplicated
    line.seconds = time.monotonic() - begin
    return line


def summary(line: Line) -> str:
    state = "ok    " if line.ok else "FAILED"
    return f"{state} {line.row:>3} {line.fault} [{line.topology}] {line.seconds:.0f} s: {line.outcome}"


def markdown(lines: list[Line], total: float) -> str:
    head = ["row", "fault", "servers x workers", "outcome", "recovered after, s", "lost", "duplicated"]
    table = [head, ["---"] * len(head)]
    for x in lines:
        recovered = ", ".join(f"{s:.1f}" for s in x.recoveries) or "-"
        outcome = x.outcome if x.ok else f"**FAILED**: {x.outcome}"
        counts = ["-" if n is None else str(n) for n in (x.lost, x.duplicated)]
        table.append([x.row, x.fault, x.topology, outcome.replace("|", "/").replace("\n", " "), recovered, *counts])
    seconds = sorted(s for x in lines for s in x.recoveries)
    text = "\n".join("| " + " | ".join(cells) + " |" for cells in table)
    if seconds:
        text += (
            f"\n\n{sum(x.kills for x in lines)} kills; seconds from a fault to the first row trained "
            f"(or split bridged) after it: median {statistics.median(seconds):.1f}, "
            f"worst {seconds[-1]:.1f}, of {len(seconds)}. "
            f"{sum(x.ok for x in lines)} of {len(lines)} cases as they must be, in {total / 60:.0f} min.\n"
        )
    return text + "\n"


if __name__ == "__main__":
    sys.exit(main())
