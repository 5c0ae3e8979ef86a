"""Lines that several processes parse: the same messages in the same places, and a process that is killed."""

import gzip
import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from streamtrain.config import JobConfig, load_config
from streamtrain.connectors.bridge import Bridge
from streamtrain.contracts.marker import Marker
from streamtrain.errors import DataError
from tests.support.jobs import rows, write_config, write_split
from tests.support.processes import is_zombie, until
from tests.support.scene import Scene
from tests.support.topics import messages

pytestmark = pytest.mark.kafka
DAY = {"end_day": "20240101", "split_interval": 1440}
SPLIT = "20240101/0000"


def published(config: JobConfig, job: str, processes: int) -> dict[str, list[Any]]:
    """All that the bridge publishes as another job with so many processes, by topic and partition; without the times
    and the topic's id."""
    changed = yaml.safe_load(config.path.read_text())
    changed["stream"].update(job=job, parse_processes=processes)
    path = config.path.with_name(f"{job}.yaml")
    path.write_text(yaml.safe_dump(changed))
    bridged = load_config(path)
    states: list[str] = []
    markers: list[Marker] = []
    Bridge(bridged, bridged.kafka(), on_state=states.append, on_split=lambda m, _: markers.append(m)).run()
    counts = sum(m.rows for m in markers), sum(m.rejected for m in markers)

    def found() -> dict[str, list[Any]] | None:
        """None: a commit returns before all that it commits is visible."""
        at = {
            f"{topic}/{partition}": [
                (m.value(), m.headers()) for m in messages(bridged.kafka(), f"{job}.{topic}", partition)
            ]
            for topic, partition in (("samples", 0), ("samples", 1), ("rejects", 0))
        }
        return at if (len(at["samples/0"]) + len(at["samples/1"]), len(at["rejects/0"])) == counts else None

    absent = [state.partition("; ")[2] for state in states if "which the config names" in state][-1:]
    return {**until(found), "absent": absent}


def test_what_is_published_does_not_depend_on_them(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, runner=DAY, stream={"max_reject_ratio": 0.5})
    lines = rows(3000)
    lines[1000] = "no row"
    lines[2000] = "1:1 " + "7" * (9 << 20)
    write_split(tmp_path / "data", SPLIT, ["\ufeff" + lines[0], "", *lines[1:]])
    packed = tmp_path / "data" / SPLIT / "part-1.gz"
    packed.write_bytes(gzip.compress("\n".join(rows(700, seed=1)).encode()))
    write_split(tmp_path / "data", SPLIT, rows(5, seed=2), file="part-2")
    alone, three = published(config, f"{job}-0", 0), published(config, f"{job}-3", 3)
    assert sum(len(alone[f"samples/{p}"]) for p in (0, 1)) == 3703 and len(alone["rejects/0"]) == 2
    assert three == alone


def test_a_header_for_each_file_and_names_that_are_absent(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    columns = {"labels": {"click": "label"}, "fields": {"user": 2, "item": 3}}
    config = write_config(tmp_path, job, kafka, runner=DAY, stream={"format": "csv", "columns": columns})
    lines = [f"{n % 2},{n % 7},{n % 11}" for n in range(900)]
    write_split(tmp_path / "data", SPLIT, ["label,user,item", *lines], done=False)
    write_split(tmp_path / "data", SPLIT, ["label,item,user", *lines], file="part-1")
    assert published(config, f"{job}-0", 0) == published(config, f"{job}-2", 2)

    as_json = [json.dumps({"label": n % 2, "user": n}) for n in range(900)]
    config = write_config(tmp_path, job, kafka, runner={**DAY, "split_interval": 720}, stream={
        "format": "json", "columns": columns})  # fmt: skip
    write_split(tmp_path / "data", "20240101/1200", as_json)
    write_split(tmp_path / "data", SPLIT, as_json, done=False)
    last = json.dumps({"label": 1, "user": 1, "item": 5})
    write_split(tmp_path / "data", SPLIT, as_json, file="part-1")
    alone = published(config, f"{job}-4", 0)
    assert "item" in alone["absent"][0]
    assert published(config, f"{job}-5", 2) == alone
    write_split(tmp_path / "data", SPLIT, [*as_json, last], file="part-1")
    alone = published(config, f"{job}-6", 0)
    assert alone["absent"] == [] and published(config, f"{job}-7", 2) == alone


def test_functions_of_the_users(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, runner=DAY, stream={"format": "tests.support.odd_formats:csv"})
    assert config.stream.parse_process_count(0) == 0  # auto: it may depend on being called in one process
    write_split(tmp_path / "data", SPLIT, ["label,feasign", *(f"{n % 2},{n}" for n in range(900))])
    assert published(config, f"{job}-0", 0) == published(config, f"{job}-2", 2)
    (tmp_path / "data" / SPLIT / "part-0").write_text("1,2\n" * 299 + "1,300\n" + "1,2\n" * 600)
    config = write_config(tmp_path, job, kafka, runner=DAY, stream={"format": "tests.support.odd_formats:hungry"})
    with pytest.raises(DataError, match="line 300: the parse function ran out of memory") as error:
        published(config, f"{job}-3", 2)
    assert "give the bridge more memory" in error.value.remedy


def parsing(bridge: int) -> list[psutil.Process]:
    return [p for p in psutil.Process(bridge).children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]


def test_killed(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """A process that parses, in the middle of a split; then the bridge itself, whose processes end with it."""
    scene = Scene(tmp_path, kafka, job, stream={"parse_processes": 2})
    for number in range(4):
        split = f"20240101/{6 * number:02}00"
        write_split(tmp_path / "data", split, rows(3000, seed=number))
    bridge = scene.start("bridge", failpoints="bridge.row=stop@500")
    until(lambda: psutil.Process(bridge.pid).status() == psutil.STATUS_STOPPED)
    victims = parsing(bridge.pid)
    assert len(victims) == 2
    victims[0].kill()
    bridge.signal(signal.SIGCONT)
    bridge.finish()
    assert "has died (exit code -9); starting again from the marker log" in bridge.output
    until(lambda: all(is_zombie(p.pid) for p in victims))
    scene.recount_topic()


def test_the_bridge_killed(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = Scene(tmp_path, kafka, job, stream={"parse_processes": 2})
    write_split(tmp_path / "data", SPLIT, rows(3000))
    bridge = scene.start("bridge", failpoints="bridge.row=stop@500")
    until(lambda: psutil.Process(bridge.pid).status() == psutil.STATUS_STOPPED)
    children = parsing(bridge.pid)
    os.kill(bridge.pid, signal.SIGKILL)
    bridge.end()
    until(lambda: all(is_zombie(p.pid) for p in children))
    scene.start("bridge").finish()
    scene.recount_topic()


def test_a_process_that_dies_each_time(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = write_config(tmp_path, job, kafka, runner=DAY, stream={
        "format": "tests.support.odd_formats:deadly", "parse_processes": 1})  # fmt: skip
    write_split(tmp_path / "data", SPLIT, ["1,2"] * 600)
    with pytest.raises(DataError, match=f"split {SPLIT}: .*part-0 has died .exit code -9., 3 times in a row") as error:
        Bridge(config, config.kafka()).run()
    assert "parse_processes: 0" in error.value.remedy
