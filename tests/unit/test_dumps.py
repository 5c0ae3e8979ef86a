"""Dumps: Paddle's files read back, what is lost of them, the folders that they go to."""

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from streamtrain.dumps import FILES, Dump, DumpFolder, check_part, read_dump
from streamtrain.errors import ConfigError, DataError, TrainingError
from streamtrain.feed.passes import PassPlan
from streamtrain.schedule import PassId
from streamtrain.training.pass_dumps import PassDumps
from tests.support.jobs import write_config

SLOTS = (2, 3, 4, 5)

WHOLE = b"a\t\tp:1:0.5\tq:3:1,-2.5e-07,nan\n(0,0,w)0.1,0.2\nb\t\tp:1:0.25\tq:0:\n"


def test_a_dump_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "part-000-00000").write_bytes(WHOLE)
    found = dict(read_dump(tmp_path))
    assert list(found) == ["a", "b"] and found["a"]["p"].dtype == np.float32
    np.testing.assert_array_equal(found["a"]["q"], np.array([1, -2.5e-07, np.nan], np.float32))
    assert found["b"]["p"].tolist() == [0.25] and found["b"]["q"].size == 0
    assert check_part(Dump(tmp_path, ("p", "q"), ("w",)), 0) == 2
    assert check_part(Dump(tmp_path, ("p", "q")), 1) == 0


def test_whole_numbers_are_exact(tmp_path: Path) -> None:
    (tmp_path / "part-000-00000").write_bytes(b"a\t\titem:2:18446744073709551615,7\tp:1:0.5\n")
    ((_, row),) = read_dump(tmp_path, whole=["item"])
    assert row["item"].tolist() == [2**64 - 1, 7] and row["p"].tolist() == [0.5]
    with pytest.raises(DataError, match="line 1 is not a complete row"):
        list(read_dump(tmp_path, whole=["p"]))


def test_what_is_lost_is_seen(tmp_path: Path) -> None:
    """Whatever run of bytes is lost, but for a piece of one value: fewer rows, or an error."""
    rows_only = b"".join(line for line in WHOLE.splitlines(keepends=True) if not line.startswith(b"("))
    part = tmp_path / "part-000-00000"
    for at in range(len(rows_only)):
        for end in range(at + 1, len(rows_only) + 1):
            if set(rows_only[at:end]) & set(b"\t\n:,"):
                part.write_bytes(rows_only[:at] + rows_only[end:])
                with contextlib.suppress(TrainingError, ConfigError):
                    assert check_part(Dump(tmp_path, ("p", "q")), 0) < 2, (at, end)


def test_lost_and_refused_rows(tmp_path: Path) -> None:
    part = tmp_path / "part-000-00000"
    part.write_bytes(WHOLE[:-1])
    with pytest.raises(TrainingError, match=r"part-000-00000, line 3: .* its end is missing"):
        check_part(Dump(tmp_path, ("p", "q")), 0)
    with pytest.raises(DataError, match=r"part-000-00000, line 3"):
        list(read_dump(tmp_path))
    part.write_bytes(WHOLE.replace(b"q:3:1,", b"q:3:"))
    with pytest.raises(TrainingError, match=r"line 1: .* q has 2 of 3 values"):
        check_part(Dump(tmp_path, ("p", "q")), 0)
    part.write_bytes(WHOLE)
    with pytest.raises(ConfigError, match=r"does not dump r of the model"):
        check_part(Dump(tmp_path, ("p", "q", "r")), 0)
    with pytest.raises(ConfigError, match=r"does not dump v of the model"):
        check_part(Dump(tmp_path, ("p", "q"), ("v", "w")), 0)


def test_a_dump_is_replaced_whole(tmp_path: Path) -> None:
    folder = DumpFolder(tmp_path, "runner.train_dump_fields_dir")
    for run in (5, 4):
        left = folder.stage("20240101", 1, 77)
        (left / "part-000-00000").touch()
        (folder.staging("20240101", 11, 77)).mkdir(exist_ok=True)  # another pass's
        staged = folder.stage("20240101", 1, run)
        assert not left.exists() and not list(staged.iterdir())
        (staged / f"part-{run}").touch()
        place = folder.publish("20240101", 1, run, [("20240101/0000/0", "20240101/0000/part-0")])
        assert sorted(p.name for p in place.iterdir()) == [FILES, f"part-{run}"]
        assert sorted(p.name for p in place.parent.iterdir()) == [".11-77", "1"]


def test_folders_that_are_refused(tmp_path: Path) -> None:
    def make(**runner: Any) -> None:
        write_config(tmp_path, "job", {}, runner=runner)

    infer: dict[str, Any] = {"need_infer_dump": True, "infer_data_dir": "items"}
    make(infer_dump_fields_dir="a b")  # off: nobody hands it to a shell
    with pytest.raises(ConfigError, match=r"runner\.infer_dump_fields_dir: .*/a;b has the character ';'"):
        make(**infer, infer_dump_fields_dir="a;b")
    with pytest.raises(ConfigError, match=r"runner\.train_dump_fields_dir: .* is runner\.model_save_path already"):
        make(need_train_dump=True, train_dump_fields_dir="model")
    with pytest.raises(ConfigError, match=r"is runner\.train_dump_fields_dir already"):
        make(**infer, need_train_dump=True, train_dump_fields_dir="d", infer_dump_fields_dir="./d")
    with pytest.raises(ConfigError, match=r"stream\.predict_dump_dir: .* is runner\.infer_dump_fields_dir already"):
        write_config(tmp_path, "job", {}, runner=infer, stream={"predict_dump_dir": "infer_dump_data"})
    for inside in ("items", "items/dump"):
        with pytest.raises(
            ConfigError, match=r"runner\.infer_dump_fields_dir: .* is in runner\.infer_data_dir, .*/items"
        ):
            make(**infer, infer_dump_fields_dir=inside)
    make(**infer)
    with pytest.raises(ConfigError, match=r"infer_data_dir .* is not set; .* stream\.predict_dump_dir: old"):
        make(need_infer_dump=True, infer_dump_fields_dir="old")


def test_off_nothing_is_made(tmp_path: Path) -> None:
    config = write_config(tmp_path, "job", {})
    dumps = PassDumps(config, SimpleNamespace(index=0), lambda: None)  # type: ignore[arg-type]
    before = sorted(tmp_path.rglob("*"))
    plan = PassPlan(PassId("20240101", 1), 0, (), {}, 5)
    with dumps.predict(plan) as infer, dumps.train(plan, 0) as train:
        assert infer is None and train is None
    assert not dumps.any and sorted(tmp_path.rglob("*")) == before
