"""The order in which the rows of a pass are trained."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from streamtrain.checkpoint.journal import Journal
from streamtrain.dumps import read_dump
from tests.support.jobs import rows, write_split
from tests.support.scene import SPLITS, Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]
DAY = SPLITS[0][:8]
ROWS = 600


def job_of(folder: Path, kafka: dict[str, str], job: str, workers: int = 1, *, shuffle: bool, **stream: int) -> Scene:
    """A log that is sorted by label, three passes of a day with rows; they are dumped."""
    scene = Scene(
        folder, kafka, job, 1, workers, days=2,
        runner={"need_train_dump": True},
        stream={"shuffle": shuffle, "predict_dump_dir": "predict_dump_data", **stream},
    )  # fmt: skip
    for day in (1, 2):
        for number, split in enumerate(SPLITS):
            if number != 2:
                lines = sorted(rows(ROWS, seed=10 * day + number))
                write_split(folder / "data", split.replace("20240101", f"2024010{day}"), lines)
    return scene


def dumped(scene: Scene, kind: str, pass_id: int = 1) -> dict[str, float]:
    """Predictions by ins_id, in the order of the dump, which is that of the batches."""
    place = scene.folder / f"{kind}_dump_data" / DAY / str(pass_id)
    return {ins_id: float(values["sigmoid_0.tmp_0"][0]) for ins_id, values in read_dump(place)}


def aucs(scene: Scene) -> list[float]:
    return [r.predict_auc for r in Journal(scene.config.model_save_path).read() if r.predict_auc is not None]


@pytest.mark.long
def test_a_log_sorted_by_label(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    shuffled = job_of(tmp_path / "a", kafka, f"{job}-a", shuffle=True, partitions=1)
    plain = job_of(tmp_path / "b", kafka, f"{job}-b", shuffle=False, partitions=1)
    for scene in (shuffled, plain):
        scene.start("run").finish()
        scene.recount()
    later = [float(np.mean(aucs(scene)[-3:])) for scene in (shuffled, plain)]
    assert later[0] > later[1] + 0.02, (aucs(shuffled), aucs(plain))
    ids = [list(dumped(scene, "train")) for scene in (shuffled, plain)]
    assert sorted(ids[0]) == sorted(ids[1]) and len(ids[0]) == ROWS
    lines = [[int(ins_id.rpartition("/")[2]) for ins_id in of] for of in ids]
    assert abs(np.corrcoef(lines[0], np.arange(ROWS))[0, 1]) < 0.2 and lines[1] == sorted(lines[1])
    # the first pass is predicted by the same untrained network: the order changes no prediction
    predicted = [dumped(scene, "predict") for scene in (shuffled, plain)]
    assert predicted[0] == pytest.approx(predicted[1], abs=2e-6)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_pass_that_is_trained_again_has_the_same_order(
    workers: int, tmp_path: Path, kafka: dict[str, str], job: str
) -> None:
    scene = job_of(tmp_path, kafka, job, workers, shuffle=True)
    place = tmp_path / "train_dump_data" / DAY / "2"
    run = scene.start("run", failpoints="pass.trained=stop@2")
    journal = Journal(scene.config.model_save_path)  # the other worker may still save the first pass
    run.wait_for(lambda: scene.has_fired("pass.trained") and place.is_dir() and len(journal.read()) == 1)
    before = {part.name: [ins_id for ins_id, _ in lines_of(part)] for part in sorted(place.glob("part-*"))}
    assert len(before) == workers and sum(map(len, before.values())) == ROWS
    first = place.stat().st_ino
    os.kill(scene.fired_pid("pass.trained"), signal.SIGKILL)
    run.finish()
    assert place.stat().st_ino != first  # it was trained, and dumped, again
    scene.recount()
    after = {part.name: [ins_id for ins_id, _ in lines_of(part)] for part in sorted(place.glob("part-*"))}
    assert after == before and all(ids != sorted(ids) for ids in after.values())


def lines_of(part: Path) -> list[tuple[str, str]]:
    return [(line.partition("\t")[0], line) for line in part.read_text().splitlines() if not line.startswith("(")]
