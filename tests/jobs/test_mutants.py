"""The checker is proven: whole jobs whose code is broken on purpose, each of which turns the recount red."""

from pathlib import Path

import pytest

from streamtrain.proof.job import recount_job
from tests.support.jobs import rows, write_split
from tests.support.mutants import break_code
from tests.support.scene import SPLITS, Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]


def grow(scene: Scene, seed: int) -> None:
    with (scene.folder / "data" / SPLITS[0] / "part-0").open("a") as out:
        out.write("\n".join(rows(9, seed=seed)) + "\n")


@pytest.mark.parametrize(
    ("mutant", "wrong"),
    [
        ("", set()),
        ("skip-one-row", {"lost"}),
        ("train-one-twice", {"duplicated"}),
        ("drop-a-part-file", {"lost", "missing_keys"}),
        ("swap-two-revisions", {"duplicated"}),
    ],
)
def test_recount_sees_it(
    mutant: str, wrong: set[str], tmp_path: Path, kafka: dict[str, str], job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_code(mutant, tmp_path, monkeypatch)
    scene = Scene(tmp_path, kafka, job, stream={"changed_split": "append", "settle_second": 0, "shuffle": False})
    scene.start("bridge").finish()
    for seed in (70, 71):  # two revisions of the first split
        grow(scene, seed)
        scene.start("bridge").finish()
    assert [e.marker.revision for e in scene.markers()] == [0, 0, 0, 0, 1, 2]
    (tmp_path / "data" / "20240102").mkdir()
    text = scene.config.path.read_text().replace("end_day: '20240101'", "end_day: '20240102'")
    scene.config.path.write_text(text.replace("data_donefile: data.done", "data_donefile: ''"))
    for split in SPLITS:
        (tmp_path / "data" / split.replace("20240101", "20240102")).mkdir()
    scene.start("run").finish()
    found = recount_job(scene.config)
    values = found.to_json()
    red = {name for name in ("lost", "duplicated", "missing_keys", "unknown_keys") if values[name]}
    assert red == wrong
    assert found.ok == (not wrong)


@pytest.mark.parametrize(("mutant", "wrong"), [("save-slowly", False), ("train-while-tables-are-saved", True)])
def test_nothing_is_trained_while_the_tables_are_saved(
    mutant: str, wrong: bool, tmp_path: Path, kafka: dict[str, str], job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second pass's checkpoint, whose tables are saved while the third pass is there: it has no row of that one.
    All keys are known by then, so that the trainer's own count of them says nothing."""
    break_code(mutant, tmp_path, monkeypatch)
    runner = {"checkpoint_per_pass": 2, "save_delta_frequency": 0}
    scene = Scene(tmp_path, kafka, job, runner=runner)
    write_split(tmp_path / "data", SPLITS[2], rows(150, seed=9))
    scene.hold(SPLITS[3])
    running = scene.run_to_pass(3)
    assert scene.checkpoints() == ["20240101/2"]
    found = recount_job(scene.config)
    assert found.to_json()["duplicated"] if wrong else found.ok
    scene.release(SPLITS[3])
    running.finish()
    scene.close()
