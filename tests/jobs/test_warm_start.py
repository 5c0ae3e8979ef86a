"""A job that begins from another job's checkpoint, or from what PaddleRec's trainer has saved: what it has of it, and
that its rows are still proven."""

import gzip
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from streamtrain.checkpoint.store import CheckpointStore
from streamtrain.config import JobConfig, load_config
from streamtrain.contracts.tensors import read_tensor
from streamtrain.proof.job import recount_job
from tests.jobs.test_shrink import multislot
from tests.support.cli import run
from tests.support.everything_job import TABLES, counted_in, expected, publish, rich_rows, write_everything
from tests.support.jobs import rows, write_config
from tests.support.roles import run_roles
from tests.support.scene import Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]

DECAY = {"show_click_decay_rate": 0.5, "delete_threshold": 0.06, "delete_after_unseen_days": 1.0}


def changed(config: JobConfig, table: dict[str, Any], **sections: dict[str, Any]) -> JobConfig:
    """The config with other keys of its table, merged into accessor.ctr_accessor_param and the table itself."""
    raw = yaml.safe_load(config.path.read_text())
    embedding = raw["table_parameters"]["embedding"]
    embedding["accessor"]["ctr_accessor_param"].update(table.pop("ctr", {}))
    embedding["accessor"].update(table.pop("accessor", {}))
    embedding.update(table)
    for section, values in sections.items():
        raw[section] = {**raw[section], **values}
    config.path.write_text(yaml.safe_dump(raw))
    return load_config(config.path)


def lines_of(checkpoint: Path) -> dict[int, list[str]]:
    found = [x.split() for p in checkpoint.glob("embedding.shard/*.txt") for x in p.read_text().splitlines()]
    by_key = {int(line[0]): line for line in found}
    assert len(by_key) == len(found)
    return by_key


def placed_right(checkpoint: Path) -> None:
    """Paddle keeps a key in the file whose place is key % shard_num."""
    parts = sorted(checkpoint.glob("embedding.shard/*.txt"))
    for number, part in enumerate(parts):
        for line in part.read_text().splitlines():
            assert int(line.split()[0]) % len(parts) == number, part


@pytest.mark.long
def test_grown_network_killed_before_its_first_checkpoint(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    first = Scene(tmp_path / "a", kafka, f"{job}-a", days=2)
    first.config = changed(first.config, {"ctr": DECAY})
    first.start("run").finish(180)
    source = CheckpointStore(first.config.model_save_path).list()[-1]
    assert recount_job(first.config).ok
    placed_right(source.path)

    model = str(first.config.model_save_path)
    grown = {"slot_num": 4, "layer_sizes": [8, 4]}
    second = Scene(tmp_path / "b", kafka, f"{job}-b", 2, 2, runner={"warmup_model_path": model}, hyper_parameters=grown)
    second.config = changed(second.config, {"ctr": DECAY, "shard_num": 3})
    shown = run("config", "check", "-m", str(second.config.path), "--json")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    parts = {part["name"]: part for part in json.loads(shown.stdout)["warm_start"]["parts"]}
    taken = {name: part["taken"] for name, part in parts.items()}
    assert taken == {
        "embedding": "all", "fc_0.b": "values", "fc_0.w": "values", "fc_1.b": "no", "fc_1.w": "no", "out.b": "values",
        "out.w": "no",
    }  # fmt: skip
    assert "[8, 1]" in parts["out.w"]["why"] and "starts fresh" in parts["fc_1.w"]["why"]

    trainer = second.start("run", failpoints="save.written=stop")
    trainer.wait_for(lambda: second.has_fired("save.written"), 120)
    for role in (trainer.pid, *(process.pid for kind in ("worker", "server") for process in second.roles(kind))):
        os.kill(role, signal.SIGKILL)
    time.sleep(0.5)
    assert second.checkpoints() == []
    second.start("run").finish(180)

    log = (tmp_path / "b" / "log" / "workerlog.0").read_text()
    assert "warm start: dense fc_1.w: no: " in log and "warm start: table embedding: all" in log
    found = recount_job(second.config)
    assert found.verdict == "proven", found.to_json()
    newest = CheckpointStore(second.config.model_save_path).list()[-1]
    placed_right(newest.path)
    old, new = lines_of(source.path), lines_of(newest.path)
    assert found.shrinks == 1 and set(new) <= set(old) | {s * 1000 + v + 1 for s in range(2, 6) for v in range(50)}
    status = json.loads(run("status", "-m", str(second.config.path), "--json").stdout)["warm_start"]
    assert status["digest"] == source.digest and status["source"] == "checkpoint"
    assert status["parts"][0]["keys"] == len(old)

    shutil.rmtree(first.config.model_save_path)  # and it is proven without its source
    assert recount_job(second.config).verdict == "proven"
    # continues from its own checkpoint, whatever the key says
    longer = changed(second.config, {}, runner={"end_day": "20240102", "warmup_model_path": "elsewhere"})
    for name in ("0000", "0600", "1200", "1800"):
        shutil.copytree(tmp_path / "b/data/20240101" / name, tmp_path / "b/data/20240102" / name)
    second.config = longer
    second.start("run", name="again").finish(180)
    assert "has no effect any more" in (tmp_path / "b" / "log" / "workerlog.0").read_text()
    assert recount_job(longer).verdict == "proven"

    # the recount sees a source that was counted wrongly
    newest = CheckpointStore(longer.model_save_path).list()[-1]
    counts = newest.path / ".warmup" / "embedding.counts"
    records = np.fromfile(counts, np.dtype("<u8,<f4,<f4,<i4"))
    key = next(i for i, k in enumerate(records["f0"]) if int(k) in lines_of(newest.path))
    records["f1"][key] += 100
    counts.unlink()
    records.tofile(counts)
    assert recount_job(longer).verdict == "differs"
    counts.unlink()
    assert recount_job(longer).verdict == "not provable"
    first.close()
    second.close()


def dense_of(checkpoint: Path) -> dict[str, np.ndarray]:
    return {p.name: read_tensor(p.read_bytes()) for p in sorted(checkpoint.glob("*.[bw]"))}


def rows_of_dense(folder: Path) -> list[list[str]]:
    """The dense table's lines, of all servers."""
    texts = [p.read_bytes() for p in sorted(folder.iterdir())]
    plain = (gzip.decompress(text) if text.startswith(b"\x1f\x8b") else text for text in texts)
    return [line.split() for text in plain for line in text.decode().splitlines()]


def begun(config: JobConfig, folder: Path, name: str, servers: int, workers: int = 1) -> tuple[Path, dict[str, Any]]:
    """What the servers have after the warm start, saved; and the report."""
    target = folder / name
    arguments = [str(config.path), str(target)]
    run_roles("warm_role.py", arguments, folder, folder / f"{name}.done", servers, workers)
    return target, json.loads((folder / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("mode", "d2sum"),
    [pytest.param(0, True, id="gzip"), pytest.param(1, False, id="plain")],
)
@pytest.mark.long
def test_what_paddlerecs_trainer_saved(tmp_path: Path, kafka: dict[str, str], job: str, mode: int, d2sum: bool) -> None:
    """fleet.save_persistables by two servers, taken by one and by three, into other shards."""
    theirs = write_config(tmp_path / "theirs", f"{job}-theirs", kafka)
    theirs = changed(
        theirs, {"ctr": {"base_threshold": 0.0, "delta_threshold": 0.0}}, hyper_parameters={"adam_d2sum": d2sum}
    )
    (tmp_path / "rows.txt").write_text(multislot(rows(300, seed=77)))
    saved = tmp_path / "saved"
    arguments = [str(theirs.path), str(tmp_path / "rows.txt"), str(saved), str(mode)]
    run_roles("paddlerec_role.py", arguments, tmp_path, tmp_path / "saved.done", 2, 1)
    old = {}
    for part in sorted((saved / "000").iterdir()):
        assert (part.suffix == ".gz") == (mode == 0)
        data = part.read_bytes()
        text = gzip.decompress(data) if mode == 0 else data
        old.update({int(line.split()[0]): line.decode().split() for line in text.splitlines()})
    dense = rows_of_dense(saved / "001")
    assert len({line[0] for line in dense}) > 50 and len({line[7] for line in old.values()}) > 50

    checked = {"consistency_rows": 64}
    mine = Scene(tmp_path / "mine", kafka, job, runner={"warmup_model_path": str(saved)}, stream=checked)
    mine.config = changed(mine.config, {"shard_num": 5})
    state = "all" if d2sum else "values"
    for servers in (1, 3):
        found, report = begun(mine.config, tmp_path, f"begun{servers}", servers)
        assert {p["kind"]: p["taken"] for p in report["parts"]} == {"table": "all", "dense": state}
        assert report["source"] == "paddlerec" and len(report["digest"]) == 64
        assert lines_of(found) == old
        placed_right(found)
        values = np.concatenate([value.ravel() for value in dense_of(found).values()])
        assert np.array_equal(values, np.array([line[0] for line in dense], np.float32))
        if d2sum:
            assert rows_of_dense(found / ".dense") == dense
        shutil.rmtree(mine.config.model_save_path)
    mine.start("run").finish(180)
    assert recount_job(mine.config).verdict == "proven"
    report = json.loads((mine.config.model_save_path / "consistency.json").read_text())
    assert report["ok"] and report["rows"] == 64, report  # what is served has the source's keys
    refused = changed(mine.config, {"accessor": {"embedx_dim": 4, "fea_dim": 7}}, hyper_parameters={"emb_dim": 5},
                      runner={"model_save_path": "other"})  # fmt: skip
    done = run("train", "-m", str(refused.path))
    assert done.returncode == 2 and "table_parameters.embedding" in done.stderr, done.stderr
    refused = changed(mine.config, {"accessor": {"embedx_dim": 8, "fea_dim": 11}},
                      hyper_parameters={"emb_dim": 9, "layer_sizes": [9]})  # fmt: skip
    done = run("train", "-m", str(refused.path))
    assert done.returncode == 2 and "the dense table" in done.stderr and "305 numbers" in done.stderr, done.stderr
    assert not refused.model_save_path.exists()
    mine.close()


@pytest.mark.long
def test_other_shapes_of_our_own(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """Exact where nothing differs but shards and servers; without statistics where the rules and widths do."""
    first = Scene(tmp_path / "a", kafka, f"{job}-a")
    first.start("run").finish(180)
    source = CheckpointStore(first.config.model_save_path).list()[-1]
    old = lines_of(source.path)

    same = write_config(tmp_path / "same", f"{job}-same", kafka, runner={"warmup_model_path": str(source.path)})
    same = changed(same, {"shard_num": 7})
    found, report = begun(same, tmp_path, "exact", 2, 2)
    assert {part["taken"] for part in report["parts"]} == {"all"} and report["digest"] == source.digest
    assert lines_of(found) == old
    placed_right(found)
    for name, value in dense_of(source.path).items():
        assert np.array_equal(dense_of(found)[name], value)
    assert rows_of_dense(found / ".dense") == rows_of_dense(source.path / ".dense")
    records = np.fromfile(found / ".warmup" / "embedding.counts", np.dtype("<u8,<f4,<f4,<i4"))
    kept = {int(k): (float(s), float(c), int(u)) for k, s, c, u in records}
    assert kept == {key: (float(line[4]), float(line[5]), int(line[2])) for key, line in old.items()}

    adam = {"name": "SparseAdamSGDRule", "adam": {"beta1_decay_rate": 0.8}}
    rules = {"embed_sgd_param": adam, "embedx_sgd_param": adam}
    other = changed(same, {"accessor": rules}, runner={"model_save_path": "other"})
    done = run("train", "-m", str(other.path))
    assert done.returncode == 2 and "embed_sgd_param.name: SparseAdaGradSGDRule" in done.stderr, done.stderr
    other = changed(other, {}, stream={"warmup": {"statistics": False}})
    found, _ = begun(other, tmp_path, "adam", 1)
    for key, line in lines_of(found).items():
        fresh = old[key]
        assert line[:7] == fresh[:7] and line[7:11] == ["0", "0", "0.8", "0.999"]
        assert line[11:19] == fresh[8:16] and line[19:] == [*["0"] * 16, "0.8", "0.999"]

    narrow = {"embedx_dim": 4, "fea_dim": 7}
    other = changed(other, {"accessor": narrow}, hyper_parameters={"emb_dim": 5}, runner={"model_save_path": "third"})
    found, report = begun(other, tmp_path, "narrow", 1)
    assert "embedx_dim was 8, it is 4" in report["parts"][0]["why"]
    assert {key: line[:7] for key, line in lines_of(found).items()} == {key: line[:7] for key, line in old.items()}
    second = Scene(tmp_path / "b", kafka, f"{job}-b", runner={"warmup_model_path": str(source.path)})
    second.config = changed(
        second.config, {"accessor": rules | narrow}, hyper_parameters={"emb_dim": 5},
        stream={"warmup": {"statistics": False}},
    )  # fmt: skip
    second.start("run").finish(180)
    assert recount_job(second.config).verdict == "proven"
    newest = CheckpointStore(second.config.model_save_path).list()[-1]
    lengths = {len(line) for key, line in lines_of(newest.path).items() if line[4] != old.get(key, [""] * 5)[4]}
    assert lengths == {7 + 4 + 4 + 10}  # a key that was trained has an embedx again
    first.close()
    second.close()


@pytest.mark.usefixtures("plain_protocol")
def test_several_tables(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """Of all rules, from a job on a store, into a job of other shards: each table's counts go on from the source's."""
    runner = {"start_day": "20240101", "end_day": "20240101", "split_interval": 720}
    url = f"plain://{tmp_path}/bucket.store/theirs"
    on_store = {"runner": {**runner, "model_save_path": url}, "stream": {"checkpoint_dir": "cache"}}
    theirs = write_everything(tmp_path / "a", f"{job}-a", kafka, **on_store)
    splits = [rich_rows(150 + number, seed=number) for number in range(4)]
    publish(theirs, splits[:2])
    assert run("train", "-m", str(theirs.path)).returncode == 0
    source = CheckpointStore(theirs.model_save_path).list()[-1]

    shutil.rmtree(theirs.model_save_path)
    runner |= {"warmup_model_path": url, "end_day": "20240102"}
    mine = write_everything(tmp_path / "b", f"{job}-b", kafka, runner=runner)
    raw = yaml.safe_load(mine.path.read_text())
    for table in raw["table_parameters"].values():
        table["shard_num"] += 1
    mine.path.write_text(yaml.safe_dump(raw))
    mine = load_config(mine.path)
    publish(mine, [*splits[2:], *splits[:2]])
    done = run("train", "-m", str(mine.path))
    assert done.returncode == 0, done.stdout + done.stderr
    proof = json.loads(run("recount", "-m", str(mine.path), "--json").stdout)
    assert proof["verdict"] == "proven" and sorted(proof["tables"]) == sorted(TABLES), proof
    newest = CheckpointStore(mine.model_save_path).list()[-1]
    assert newest.manifest is not None and newest.manifest.rows == sum(map(len, splits))
    found = counted_in(newest.path)
    assert found == expected([*splits[0], *splits[1], *(row for split in splits for row in split)])
    begun_from = json.loads((newest.path / "job.json").read_text())["warmup"]
    assert (begun_from["path"], begun_from["digest"]) == (f"{url}/{source.id}", source.digest)
    assert not list(mine.model_save_path.glob(".views/*/warmup"))
