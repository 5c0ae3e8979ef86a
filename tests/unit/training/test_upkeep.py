"""Retention and uploads on a real store: what a restart needs stays, and a frozen trainer uploads nothing."""

import json
import os
from pathlib import Path

import fsspec
import pytest

from streamtrain.checkpoint.published import PublishedModels
from streamtrain.checkpoint.runs import Run
from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.config import load_config
from streamtrain.contracts import reports
from streamtrain.contracts.donefiles import DoneLine, decode_valid_donefile
from streamtrain.contracts.manifest import Kind, ModelRef
from streamtrain.errors import CheckpointError, Fenced
from streamtrain.locations import Location
from streamtrain.schedule import PassId
from streamtrain.training.mirror import Mirror
from streamtrain.training.upkeep import Upkeep
from tests.support.checkpoints import save, taken_over
from tests.support.jobs import write_config

DAY = "20240101"


def upkeep(folder: Path, store: CheckpointStore, **stream: object) -> Upkeep:
    return Upkeep(load_config(write_config(folder, "job", {}, stream=stream).path), store.run)


def names(store: CheckpointStore) -> list[int]:
    return [c.id.pass_id for c in store.list()]


def test_what_was_restored_stays_beside_damaged_newer_ones(tmp_path: Path) -> None:
    store = taken_over(tmp_path / "model")
    for number in range(1, 6):
        save(store, PassId(DAY, number))
    for number in (4, 5):
        (store.root / DAY / str(number) / "embedding.shard" / "part-0.txt").write_text("damaged")
    keeper = upkeep(tmp_path, store, keep_checkpoints=2)
    keeper.run(PassId(DAY, 3))
    assert names(store) == [2, 3, 4, 5]
    assert "/1\t1\t0" not in (store.root / "donefile.txt").read_text()
    save(store, PassId(DAY, 4))
    keeper.run(PassId(DAY, 4))
    assert names(store) == [3, 4, 5]


def line(folder: Path, number: int, digest: str, kind: Kind = "full") -> DoneLine:
    """A model on disk of two files, and its donefile line."""
    path = folder / DAY / f"inference_model_{number}"
    (path / "sparse").mkdir(parents=True, exist_ok=True)
    (path / "sparse" / "part-0.txt").write_text(digest)
    (path / "manifest.json").write_text(json.dumps({"digest": digest}))
    return DoneLine(path=f"{DAY}/{path.name}", digest=digest, day=DAY, pass_id=number, kind=kind)


def listed(url: str) -> list[str]:
    file_system, root = fsspec.core.url_to_fs(url)
    if not file_system.exists(root):
        return []
    lines = decode_valid_donefile(file_system.cat_file(f"{root}/base_donefile.txt"))
    for line in lines:
        data = json.loads(file_system.cat_file(f"{root}/{line.path}/manifest.json"))
        assert data["digest"] == line.digest
        assert file_system.cat_file(f"{root}/{line.path}/sparse/part-0.txt").decode() == line.digest
    return [line.digest for line in lines]


def at(url: str) -> Location:
    return Location("runner.model_save_path", url)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    return f"memory://{request.node.name}-{os.getpid()}"


def test_a_frozen_trainer_uploads_nothing(tmp_path: Path, url: str) -> None:
    fenced = False

    def check() -> None:
        if fenced:
            raise Fenced("a newer trainer has taken over")

    old = Mirror(at(url), tmp_path / "old", check)
    assert old.run([line(tmp_path / "old", 0, "a")])
    fenced = True
    new = Mirror(at(url), tmp_path / "new", lambda: None)
    theirs = [line(tmp_path / "new", 0, "a"), line(tmp_path / "new", 1, "b")]
    assert new.run(theirs)
    with pytest.raises(Fenced):
        old.run([line(tmp_path / "old", 0, "a"), line(tmp_path / "old", 1, "x")])
    assert listed(url) == ["a", "b"]


def test_a_recreated_model_is_unlisted_before_it_is_overwritten(tmp_path: Path, url: str) -> None:
    assert Mirror(at(url), tmp_path, lambda: None).run([line(tmp_path, 0, "a"), line(tmp_path, 1, "b")])
    seen: list[list[str]] = []
    again = Mirror(
        Location("runner.model_save_path", url), tmp_path, lambda: seen.append(listed(url))
    )  # what readers see at each step
    second = line(tmp_path, 1, "b2")
    assert again.run([line(tmp_path, 0, "a"), second], removed=[])
    assert ["a"] in seen and listed(url) == ["a", "b2"]
    assert again.run([second], removed=[f"{DAY}/inference_model_0"])
    file_system, root = fsspec.core.url_to_fs(url)
    assert listed(url) == ["b2"] and not file_system.exists(f"{root}/{DAY}/inference_model_0")


def test_an_unreachable_store_is_reported_and_completed_later(tmp_path: Path) -> None:
    """Its folder cannot be made: a file is in the way."""
    run = Run(tmp_path / "checkpoints")
    run.take_over()
    models = PublishedModels(run.root, run)
    blocked = tmp_path / "serving"
    blocked.write_text("in the way")
    config = write_config(
        tmp_path, "job", {}, runner={"model_save_path": f"file://{blocked}"}, stream={"checkpoint_dir": "checkpoints"}
    )
    models.write_donefiles([line(run.root, 0, "a")])
    keeper = Upkeep(config, run)
    keeper.begin(None)
    with pytest.raises(CheckpointError, match=r"serving/base_donefile.txt \(runner.model_save_path\) cannot be read"):
        keeper.close()
    report = reports.read(run.root, reports.UPLOAD)
    assert report is not None and "cannot be read: NotADirectoryError" in report["problem"]
    blocked.unlink()
    keeper = Upkeep(config, run)
    keeper.begin(None)
    keeper.close()
    assert listed(f"file://{blocked}") == ["a"]
    report = reports.read(run.root, reports.UPLOAD)
    assert report is not None and report["problem"] == ""


def test_a_model_that_somebody_deleted_ends_nothing(tmp_path: Path) -> None:
    run = Run(tmp_path / "model")
    run.take_over()
    models = PublishedModels(run.root, run)
    models.remove(f"{DAY}/inference_model_1")
    kept = line(run.root, 1, "a")
    line(run.root, 2, "left by a crash")
    models.write_donefiles([kept])
    (run.root / DAY / "inference_model_3.kept").mkdir()
    damaged = line(run.root, 4, "named by a checkpoint")
    models.sweep([ModelRef(DAY, 4, damaged.digest)])
    left = sorted(p.name for p in (run.root / DAY).iterdir())
    assert left == ["inference_model_1", "inference_model_3.kept", "inference_model_4"]
