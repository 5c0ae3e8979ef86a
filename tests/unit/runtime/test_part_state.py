"""What parts report for status: replaced atomically, never in the way of the work."""

import os
import subprocess
import sys
import time
from pathlib import Path

import orjson
import psutil
import pytest

from streamtrain.errors import DataError, Fenced
from streamtrain.runtime.part_state import PartReporter, read, reporting_end
from streamtrain.stopping import Stopped


def test_the_newest_report_of_each_part(tmp_path: Path) -> None:
    bridge, trainer = PartReporter(tmp_path, "bridge"), PartReporter(tmp_path, "trainer")
    for doing in ("waiting", "publishing", "publishing"):
        bridge(doing)
    trainer("training")
    parts = {part.part: part for part in read(tmp_path)}
    assert {name: part.doing for name, part in parts.items()} == {"bridge": "publishing", "trainer": "training"}
    assert parts["bridge"].pid == os.getpid() and parts["bridge"].alive is True
    assert sorted(parts["bridge"].to_json()) == ["alive", "doing", "host", "pid", "since"]


def test_a_process_that_has_ended_is_not_alive(tmp_path: Path) -> None:
    code = "import sys, pathlib; from streamtrain.runtime.part_state import PartReporter as P"
    command = [sys.executable, "-c", f"{code}; P(pathlib.Path(sys.argv[1]), 'bridge')('working')", str(tmp_path)]
    subprocess.run(command, check=True)
    [part] = read(tmp_path)
    assert part.alive is False


def test_another_process_with_the_same_number_is_not_the_part(tmp_path: Path) -> None:
    """In a container every job's first process has the same number."""
    PartReporter(tmp_path, "bridge")("working")
    report = orjson.loads((tmp_path / "bridge.json").read_bytes())
    report["since"] = psutil.Process().create_time() - 60
    (tmp_path / "bridge.json").write_bytes(orjson.dumps(report))
    [part] = read(tmp_path)
    assert part.alive is False


def test_a_folder_that_cannot_be_made_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in the way")
    PartReporter(tmp_path / "state", "bridge")("working")
    assert read(tmp_path / "state") == []


def test_what_is_not_a_report_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "cut.json").write_text('{"part": ')
    assert read(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "last"),
    [
        (Stopped(), "stopped by a signal"),
        (DataError("a bad row", remedy="Correct it."), "failed with exit code 3: a bad row. Correct it."),
    ],
)
def test_the_end_is_what_a_part_was_doing_last(tmp_path: Path, error: Exception, last: str) -> None:
    report = PartReporter(tmp_path, "bridge")
    with pytest.raises(type(error)), reporting_end(report):
        report("waiting")
        raise error
    assert [part.doing for part in read(tmp_path)] == [last]


def test_the_end_of_an_older_process_is_not_reported_over_a_newer_one(tmp_path: Path) -> None:
    report = PartReporter(tmp_path, "bridge")
    report("waiting")
    newer = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    state = orjson.loads((tmp_path / "bridge.json").read_bytes())
    (tmp_path / "bridge.json").write_bytes(orjson.dumps({**state, "pid": newer.pid, "since": time.time() + 1}))
    with pytest.raises(Fenced), reporting_end(report):
        raise Fenced("a newer bridge has taken over")
    assert [part.doing for part in read(tmp_path)] == ["waiting"]
    newer.communicate(b"\n")
    with pytest.raises(Fenced), reporting_end(report):
        raise Fenced("a newer bridge has taken over")
    assert "taken over" in read(tmp_path)[0].doing
