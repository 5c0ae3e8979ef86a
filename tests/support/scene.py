"""A small job in a folder of its own, its processes, and what is asked of it after a fault."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import psutil

from streamtrain.checkpoint.journal import Journal
from streamtrain.checkpoint.store import Checkpoint, CheckpointStore
from streamtrain.config import JobConfig
from streamtrain.contracts.sample import SampleDecoder
from streamtrain.failpoints import ARMED, FOLDER
from streamtrain.feed.ranges import RangeReader
from streamtrain.kafka.marker_log import LogEntry, MarkerLog
from streamtrain.proof.job import recount_job
from streamtrain.proof.recount import Recount
from streamtrain.runtime.child_state import HELD, RUN_DIR
from tests.support.jobs import rows, write_config, write_split
from tests.support.models_reader import checkpoint_keys, overlay, read_all
from tests.support.paths import ROLE_SCRIPT
from tests.support.versions import NEW, Version

SPLITS = ("20240101/0000", "20240101/0600", "20240101/1200", "20240101/1800")
ROWS = 150


@dataclass(frozen=True)
class Figures:
    """What a recount measured: rows too few and rows too many."""

    lost: int
    duplicated: int


class Scene:
    """One job: config, tree of logs with four splits a day (the third one empty), processes that end with it."""

    #: All of this process, closed or not: a fixture of tests/jobs ends those of a test that has failed.
    made: ClassVar[list[Scene]] = []

    def __init__(
        self,
        folder: Path,
        kafka: dict[str, str],
        job: str,
        servers: int = 1,
        workers: int = 1,
        *,
        days: int = 1,
        **changes: Any,
    ) -> None:
        self.folder = folder
        self.job = job
        folder.mkdir(parents=True, exist_ok=True)
        runner = {
            "split_interval": 360, "end_day": f"2024010{days}", "save_delta_frequency": 1, **changes.pop("runner", {})
        }  # fmt: skip
        stream = {"servers": servers, "workers": workers, **changes.pop("stream", {})}
        self.config: JobConfig = write_config(folder, job, kafka, runner=runner, stream=stream, **changes)
        for number, split in enumerate(SPLITS):
            for day in range(days):
                lines = rows(ROWS + number, seed=10 * day + number) if number != 2 else []
                write_split(folder / "data", split.replace("20240101", f"2024010{day + 1}"), lines)
        self.measured: list[Figures] = []  # by each recount, in order
        self._processes: list[subprocess.Popen[bytes]] = []
        self.made.append(self)
        self._fired = folder / "fired"
        self._fired.mkdir(exist_ok=True)

    # the tree of logs

    def hold(self, *splits: str) -> None:
        """Takes their donefiles away: the bridge waits for them."""
        for split in splits:
            (self.folder / "data" / split / "data.done").unlink()

    def release(self, *splits: str) -> None:
        for split in splits:
            (self.folder / "data" / split / "data.done").touch()

    # processes

    def run_to_pass(self, passes: int, seconds: float = 90) -> Process:
        """`streamtrain run`, up to the moment when that many passes are trained."""
        run = self.start("run")
        run.wait_for(lambda: self.passes() == passes, seconds)
        return run

    def start(
        self,
        *arguments: str,
        failpoints: str = "",
        once: bool = True,
        name: str = "",
        cwd: Path | None = None,
        version: Version = NEW,
    ) -> Process:
        """`streamtrain ARGUMENTS -m CONFIG`; its output goes to a file of that name.

        once: each failpoint fires in one process alone, not in those that are started after it too. version: whose code
        runs.
        """
        command = [sys.executable, "-m", "streamtrain.cli.main", "-v", *arguments, "-m", str(self.config.path)]
        return self.spawn(
            command, failpoints=failpoints, once=once, name=name or arguments[0], cwd=cwd, version=version
        )

    def spawn(
        self,
        command: list[str],
        *,
        failpoints: str = "",
        once: bool = True,
        name: str = "",
        cwd: Path | None = None,
        version: Version = NEW,
    ) -> Process:
        environment = {
            **os.environ, ARMED: failpoints, FOLDER: str(self._fired) if once else "", **version.environment
        }  # fmt: skip
        output = self.folder / f"{name}-{len(self._processes)}.out"
        with output.open("wb") as out:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=environment,
                cwd=cwd or self.folder, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return Process(process, output)

    def fleetrun(self, failpoints: str = "") -> Process:
        """The trainer as the tutorial starts it, without a supervisor."""
        stream = self.config.stream
        command = [
            str(Path(sys.executable).with_name("fleetrun")), f"--server_num={stream.servers}",
            f"--worker_num={stream.worker_count}", "--log_dir=fleetlog", str(ROLE_SCRIPT), "-m", str(self.config.path),
        ]  # fmt: skip
        return self.spawn(command, failpoints=failpoints, name="fleetrun")

    def roles(self, kind: str) -> list[psutil.Process]:
        """The living servers or workers of this job, by index."""
        found = []
        wanted = {"server": "PSERVER", "worker": "TRAINER"}[kind]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                line, environ = process.cmdline(), process.environ()
                if str(self.config.path) not in line or environ.get("TRAINING_ROLE") != wanted:
                    continue
                if "online_trainer.py" not in " ".join(line) or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                if kind == "server" and "STREAMTRAIN_KEPT_SERVER" not in environ:
                    continue
                if HELD in environ and not (Path(environ[RUN_DIR]) / "released").exists():
                    continue  # a spare one
                parent = process.parent()
                if kind == "worker" and parent is not None and "TRAINING_ROLE" in parent.environ():
                    continue  # paddle's rendezvous server, a fork
                found.append((environ.get("PADDLE_TRAINER_ID", environ.get("PADDLE_PORT", "")), process))
        return [process for _, process in sorted(found, key=lambda x: x[0])]

    def close(self) -> None:
        """Ends what this scene started and what is left of its roles."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()
        for kind in ("worker", "server"):
            for role in self.roles(kind):
                with contextlib.suppress(psutil.Error):
                    role.kill()

    def leftovers(self) -> list[str]:
        """Command lines of living processes that belong to this job."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if str(self.folder) in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline())[-200:])
        return found

    # what is there

    def fired(self, name: str) -> float:
        """When the failpoint fired, seconds since 1970. It must have."""
        path = self._fired / f"{name}.fired"
        assert path.exists(), f"failpoint {name} did not fire"
        return path.stat().st_mtime

    def has_fired(self, name: str) -> bool:
        path = self._fired / f"{name}.fired"
        return path.exists() and path.stat().st_size > 0  # with its process's id

    def fired_pid(self, name: str) -> int:
        return int((self._fired / f"{name}.fired").read_text())

    def passes(self) -> int:
        return len(Journal(self.config.model_save_path).read())

    def checkpoints(self) -> list[str]:
        return [str(c.id) for c in CheckpointStore(self.config.model_save_path).list()]

    def trained_after(self, moment: float) -> float | None:
        """Seconds from `moment` to the first row trained after it, by the journal."""
        starts = [
            r.ended - (r.checkpoint_seconds or 0) - r.train_seconds
            for r in Journal(self.config.model_save_path).read()
            if r.rows
        ]
        later = [s - moment for s in starts if s > moment]
        return min(later) if later else None

    def bridged_after(self, moment: float) -> float | None:
        """Seconds from `moment` to the next split's marker."""
        later = [e.timestamp - moment for e in self.markers() if e.timestamp > moment]
        return min(later) if later else None

    def markers(self) -> list[LogEntry]:
        with MarkerLog(self.config.kafka(), f"{self.job}.splits", "test") as log:
            return list(log.to_end())

    def snapshot(self) -> dict[str, bytes]:
        """All that others see below model_save_path."""
        root = self.config.model_save_path
        paths = (p for p in root.rglob("*") if p.is_file() and not p.relative_to(root).parts[0].startswith(".staging"))
        return {str(p.relative_to(root)): p.read_bytes() for p in sorted(paths)}

    # what must hold

    def settle(self, seconds: float = 120) -> Recount:
        """Runs the job to its end without faults and recounts."""
        self.start("run", name="settle").finish(seconds)
        return self.recount()

    def recount(self) -> Recount:
        """Asserts that all passes were trained once, in order, with the markers' rows; show is as in the files."""
        records = Journal(self.config.model_save_path).read()
        schedule = self.config.schedule
        assert [r.id for r in records] == [schedule.pass_at(i) for i in range(schedule.total_passes)]
        if not self.config.embedded:
            assert sum(r.rows for r in records) == sum(e.marker.rows for e in self.markers())
        recount = recount_job(self.config)
        self.measured.append(Figures(recount.lost, recount.duplicated))
        assert recount.ok, recount.to_json()
        assert recount.rows == sum(r.rows for r in records)
        self._check_models()
        assert str(self.folder) not in str(self.leftovers()), self.leftovers()
        return recount

    def _check_models(self) -> None:
        """Inference models are whole, and the newest chain of them is the newest checkpoint, key by key."""
        root = self.config.model_save_path
        newest = CheckpointStore(root).list()[-1]
        if self.config.models is None:
            self.check_models(root, newest)

    def check_models(self, root: Path, newest: Checkpoint) -> None:
        """The same for models at `root`."""
        full, incremental = read_all(root)
        if self.config.stream.inference_model == "both":
            assert full and overlay(full[-1], incremental) == checkpoint_keys(newest.path)
            for before, after in itertools.pairwise(full):
                if self.config.runner.save_delta_frequency == 1:
                    assert overlay(before, incremental) == after.keys

    def recount_topic(self) -> None:
        """Asserts that the rows that the markers name are the files', key by key: for faults of the bridge alone."""
        entries = self.markers()
        sequences = [e.marker.sequence for e in entries if e.marker.revision == 0]
        assert sequences == list(range(self.config.schedule.total_splits))
        partitions = range(self.config.stream.partitions)
        ranges = {p: [r for e in entries for r in e.marker.ranges if r.partition == p] for p in partitions}
        reader = RangeReader(self.config.kafka(), f"{self.job}.samples", "test", dict.fromkeys(partitions, 0))
        decoder = SampleDecoder()
        in_topic: Counter[int] = Counter()
        for records in reader.read(ranges):
            batch = decoder.decode([value for _, _, value in records])
            in_topic.update(batch.feasigns.tolist())
        reader.close()
        in_files: Counter[int] = Counter()
        for file in sorted((self.folder / "data").glob("*/*/part-*")):
            for line in file.read_text().splitlines():
                in_files.update(int(p.split(":")[0]) for p in line.split() if not p.endswith(":1"))
        self.measured.append(Figures((in_files - in_topic).total(), (in_topic - in_files).total()))
        assert in_topic == in_files


class Process:
    """A process of a scene and its output."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def output(self) -> str:
        return self._output.read_text("utf-8", "replace")

    def finish(self, seconds: float = 120) -> str:
        """Its output; it must end with exit code 0."""
        code = self.end(seconds)
        assert code == 0, f"exit code {code}\n{self.output[-4000:]}"
        return self.output

    def end(self, seconds: float = 120) -> int:
        """Its exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended after {seconds} s\n{self.output[-4000:]}") from None

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait_for(self, condition: Callable[[], Any], seconds: float = 60, *, alive: bool = True) -> None:
        """Until the condition holds; this process must not end before, unless it may."""
        deadline = time.monotonic() + seconds
        while not condition():
            if alive and self.process.poll() is not None:
                assert condition(), f"ended with {self.process.returncode}\n{self.output[-4000:]}"
                return
            assert time.monotonic() < deadline, f"not within {seconds} s\n{self.output[-3000:]}"
            time.sleep(0.05)


@contextlib.contextmanager
def tmpfs(folder: Path, megabytes: int) -> Iterator[Path]:
    """A small file system of its own; needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def can_mount() -> bool:
    """Whether a tmpfs can be mounted here."""
    return os.geteuid() == 0 and shutil.which("mount") is not None and os.access("/sys", os.W_OK)
