"""Dumps: ids before rows, Paddle's files read back, whole jobs that are killed while they dump."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.connectors.formats import line_parser
from streamtrain.contracts.marker import Marker, Range, SourceFile
from streamtrain.contracts.sample import SampleDecoder, encode_sample
from streamtrain.dumps import FILES, Dump, DumpFolder, check_part, read_dump
from streamtrain.errors import ConfigError, DataError, TrainingError
from streamtrain.feed.multislot import MultiSlotWriter
from streamtrain.feed.passes import PassPlan
from streamtrain.feed.row_ids import RowIds, files_of
from streamtrain.schedule import PassId
from streamtrain.training.pass_dumps import PassDumps
from tests.support.jobs import rows, write_config, write_split
from tests.support.paths import MODEL
from tests.support.scene import SPLITS, Scene, can_mount, tmpfs

SLOTS = (2, 3, 4, 5)
PREDICTED = "sigmoid_0.tmp_0"


# ids


def marker(day: str, time: str, revision: int, *ranges: Range, files: tuple[str, ...] = ("part-0",)) -> Marker:
    listed = tuple(SourceFile(f, 0, 0, "") for f in files)
    return Marker(day, time, 0, revision, "data", "t", ranges, sum(r.rows for r in ranges), 0, listed, "{}")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1, max_size=20))
def test_ids_stand_before_their_rows(places: list[tuple[int, int]]) -> None:
    parse = line_parser("feasign_slot", SLOTS)
    parsed = [parse(line.encode()) for line in rows(len(places))]
    messages = [
        encode_sample(r.label, file, line, r.slots, r.feasigns) for r, (file, line) in zip(parsed, places, strict=True)
    ]
    records = [(0, 7 + i, message) for i, message in enumerate(messages)]
    batch = SampleDecoder().decode(messages, places=True)
    ids = RowIds([marker("20240101", "0030", 0, Range(0, 7, 99, 92))]).encode(records, batch)
    assert ids == [b"20240101/0030/%d/%d" % place for place in places]
    plain = MultiSlotWriter(SLOTS).text(SampleDecoder().decode(messages))
    text = MultiSlotWriter(SLOTS).text(batch, ids)
    expected = [b"1 %b %b" % pair for pair in zip(ids, plain.splitlines(keepends=True), strict=True)]
    assert text == b"".join(expected)


def test_an_id_names_the_split_whose_range_has_the_row() -> None:
    markers = [
        marker("20240101", "0000", 0, Range(0, 0, 10, 9), Range(1, 0, 5, 5)),
        marker("20240101", "0030", 0, Range(0, 12, 20, 8), files=("a", "b")),
        marker("20240101", "0000", 1, Range(1, 7, 9, 2), files=("late",)),
    ]
    places = {(0, 0): "0000", (0, 9): "0000", (1, 4): "0000", (0, 12): "0030", (0, 19): "0030", (1, 7): "0000.1"}
    records = [(p, o, encode_sample(1, 0, 3, b"", b"")) for p, o in places]
    batch = SampleDecoder().decode([value for _, _, value in records], places=True)
    found = [i.decode() for i in RowIds(markers).encode(records, batch)]
    assert found == [f"20240101/{time}/0/3" for time in places.values()]
    assert dict(files_of(markers)) == {
        "20240101/0000/0": "20240101/0000/part-0",
        "20240101/0030/0": "20240101/0030/a",
        "20240101/0030/1": "20240101/0030/b",
        "20240101/0000.1/0": "20240101/0000/late",
    }


# files

WHOLE = b"a\t\tp:1:0.5\tq:3:1,-2.5e-07,nan\n(0,0,w)0.1,0.2\nb\t\tp:1:0.25\tq:0:\n"


def test_a_dump_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "part-000-00000").write_bytes(WHOLE)
    found = dict(read_dump(tmp_path))
    assert list(found) == ["a", "b"] and found["a"]["p"].dtype == np.float32
    np.testing.assert_array_equal(found["a"]["q"], np.array([1, -2.5e-07, np.nan], np.float32))
    assert found["b"]["p"].tolist() == [0.25] and found["b"]["q"].size == 0
    assert check_part(Dump(tmp_path, ("p", "q"), ("w",)), 0) == 2
    assert check_part(Dump(tmp_path, ("p", "q")), 1) == 0


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


# the config


def test_folders_that_are_refused(tmp_path: Path) -> None:
    def make(**runner: Any) -> None:
        write_config(tmp_path, "job", {}, runner=runner)

    make(infer_dump_fields_dir="a b")  # off: nobody hands it to a shell
    with pytest.raises(ConfigError, match=r"runner\.infer_dump_fields_dir: .*/a;b has the character ';'"):
        make(need_infer_dump=True, infer_dump_fields_dir="a;b")
    with pytest.raises(ConfigError, match=r"runner\.train_dump_fields_dir: .* is runner\.model_save_path already"):
        make(need_train_dump=True, train_dump_fields_dir="model")
    with pytest.raises(ConfigError, match=r"is runner\.train_dump_fields_dir already"):
        make(need_train_dump=True, need_infer_dump=True, train_dump_fields_dir="d", infer_dump_fields_dir="./d")


def test_off_nothing_is_made(tmp_path: Path) -> None:
    config = write_config(tmp_path, "job", {})
    dumps = PassDumps(config, SimpleNamespace(index=0), lambda: None)  # type: ignore[arg-type]
    before = sorted(tmp_path.rglob("*"))
    plan = PassPlan(PassId("20240101", 1), 0, (), {}, 5)
    with dumps.infer(plan) as infer, dumps.train(plan, 0) as train:
        assert infer is None and train is None
    assert not dumps.any and sorted(tmp_path.rglob("*")) == before


# whole jobs


def model_that_dumps(folder: Path, infer: str, train: str, params: str) -> Path:
    """The slot_dnn model with other lists."""
    folder.mkdir(parents=True)
    (folder / "net.py").write_text((MODEL / "net.py").read_text())
    text = (MODEL / "static_model.py").read_text()
    for old, new in (
        ("infer_dump_fields = [predicted]", f"infer_dump_fields = {infer}"),
        ("train_dump_fields = [predicted]", f"train_dump_fields = {train}"),
        ("train_dump_params: list[Any] = []", f"train_dump_params = {params}"),
    ):
        assert old in text
        text = text.replace(old, new)
    (folder / "static_model.py").write_text(text)
    return folder


def labels_of(scene: Scene) -> dict[str, dict[str, int]]:
    """By pass, each row's ins_id and label, from the source files; a pass is a split."""
    found: dict[str, dict[str, int]] = {}
    for number, split in enumerate(SPLITS, 1):
        here = found.setdefault(f"{split.split('/')[0]}/{number}", {})
        for index, file in enumerate(sorted((scene.folder / "data" / split).glob("part-*"))):
            for line, text in enumerate(file.read_text().splitlines(), 1):
                if text and text != "nonsense":
                    here[f"{split}/{index}/{line}"] = int(text[0])
    return found


def dumped(root: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """By pass, its rows; each id once, nothing half done beside them."""
    assert not list(root.glob("*/.*"))
    for place in sorted(root.glob("*/*")):
        lines = list(read_dump(place))
        assert len(dict(lines)) == len(lines)
        yield f"{place.parent.name}/{place.name}", dict(lines)


@pytest.mark.kafka
@pytest.mark.paddle
@pytest.mark.parametrize(
    ("servers", "workers", "failpoints"), [(1, 1, "pass.trained=kill@2,dump.aside=kill"), (2, 2, "dump.written=kill@3")]
)
def test_every_row_once_though_killed(
    servers: int, workers: int, failpoints: str, tmp_path: Path, kafka: dict[str, str], job: str
) -> None:
    model = model_that_dumps(tmp_path / "model_dir", '[predicted, "click"]', "self.all_vars", '["out.w", "fc_0.b"]')
    runner = {"need_infer_dump": True, "need_train_dump": True, "model_dir": str(model), "checkpoint_per_pass": 2}
    scene = Scene(tmp_path, kafka, job, servers, workers, runner=runner)
    more = rows(20, seed=9)
    write_split(tmp_path / "data", SPLITS[1], [*more[:4], "", "nonsense", *more[4:]], file="part-1")
    scene.start("run", failpoints=failpoints).finish()
    for point in failpoints.split(","):
        scene.fired(point.split("=")[0])
    scene.recount()

    labels = labels_of(scene)
    assert len(labels[f"{SPLITS[1][:8]}/2"]) == 151 + 20
    infer = dict(dumped(tmp_path / "infer_dump_data"))
    assert {of: {i: int(v["click"][0]) for i, v in here.items()} for of, here in infer.items()} == labels
    train = dict(dumped(tmp_path / "train_dump_data"))
    assert {of: set(here) for of, here in train.items()} == {of: set(here) for of, here in labels.items()}
    predicted = [v for here in (*infer.values(), *train.values()) for row in here.values() for v in [row[PREDICTED]]]
    assert len(predicted) == 2 * (150 + 171 + 153)
    assert all(v.shape == (1,) and 0 < v[0] < 1 for v in predicted)
    place = tmp_path / "train_dump_data" / SPLITS[1][:8] / "2"
    workers_seen = sorted(p.name for p in place.glob("part-*"))
    assert workers_seen == [f"part-{w:03d}-00000" for w in range(workers)]
    first = next(iter(train[f"{SPLITS[1][:8]}/2"].values()))
    assert len(first) == 4 + 1 + 2 + 1 and sum(v.size for v in first.values()) == 4 * 9 + 36 + 8 + 1 + 1
    params = [x for p in place.glob("part-*") for x in p.read_bytes().splitlines() if x.startswith(b"(0,0,")]
    assert sorted(x.split(b")")[0] for x in params) == sorted([b"(0,0,out.w", b"(0,0,fc_0.b"] * workers)
    assert (place / FILES).read_text() == "".join(f"{SPLITS[1]}/{n}\t{SPLITS[1]}/part-{n}\n" for n in (0, 1))


@pytest.mark.kafka
@pytest.mark.paddle
def test_what_cannot_be_dumped_is_refused(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """Before anything is touched."""
    model = model_that_dumps(tmp_path / "model_dir", '[predicted, "nix"]', "[]", "[]")
    scene = Scene(tmp_path, kafka, job, runner={"need_infer_dump": True, "model_dir": str(model)})
    run = scene.start("train")
    assert run.end() == ConfigError.exit_code
    assert "static_model.py: infer_dump_fields names nix, which the network has not" in run.output
    assert not (tmp_path / "infer_dump_data").exists() and not list((tmp_path / "model").glob("*"))


@pytest.mark.kafka
@pytest.mark.paddle
@pytest.mark.skipif(not can_mount(), reason="mounts a tmpfs")
def test_a_full_disk_is_seen(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    with tmpfs(tmp_path / "small", 1) as folder:
        (folder / "filler").write_bytes(bytes((1 << 20) - 4096))
        runner = {"need_train_dump": True, "train_dump_fields_dir": str(folder)}
        scene = Scene(tmp_path / "job", kafka, job, runner=runner, stream={"max_restarts": 0})
        run = scene.start("run")
        assert run.end() == TrainingError.exit_code, run.output
        assert f"{folder}/20240101/.1-" in run.output and "Is the disk" in run.output
        assert not scene.checkpoints() and not (folder / "20240101" / "1").exists()
