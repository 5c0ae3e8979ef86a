"""The sources of a warm start, as files: found, refused by name, written into shards; the proof's reader of counts."""

import gzip
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamtrain.checkpoint import warmup
from streamtrain.checkpoint.identity import IdentityCheck
from streamtrain.checkpoint.store import put_manifest, seal
from streamtrain.checkpoint.warm_files import dense_of_paddlerec, write_table
from streamtrain.checkpoint.warm_source import open_source
from streamtrain.checkpoint.warmup import Decided, tables_wanted
from streamtrain.config import JobConfig, load_config
from streamtrain.contracts.identity import JobIdentity
from streamtrain.contracts.table_text import SHARD
from streamtrain.contracts.warm_plan import TablePlan
from streamtrain.contracts.warmup import FIXED, Part, WarmStart
from streamtrain.engine.dry_build import BuildReport
from streamtrain.engine.tables import TableFormat
from streamtrain.errors import CheckpointError, ConfigError, JobChanged, StreamtrainError, UnknownFormat
from streamtrain.locations import Location
from streamtrain.object_store import ObjectStore
from streamtrain.proof.days import Histories, ShrinkRule
from streamtrain.proof.start import begin
from streamtrain.runtime.preflight import warm_start
from streamtrain.schedule import PassId
from tests.support import (
    checkpoints,
    plain_store,
)
from tests.support.everything_job import counted_in, write_everything
from tests.support.formats import unpacked
from tests.support.jobs import write_config
from tests.support.paths import TESTS

DENSE = {"fc.w": (2, 2), "fc.b": (2,)}
PASSES = [PassId("20240101", 1), PassId("20240101", 2)]


def line(key: int, show: int = 3, click: int = 1, unseen: int = 2) -> bytes:
    return b"%d 2 %d 0 %d %d 0.5 0.1 %s 0.2\n" % (key, unseen, show, click, b" ".join([b"0.25"] * 8))


def made(folder: Path, config: JobConfig, passes: list[PassId] = PASSES) -> Path:
    """A model_save_path with checkpoints of these passes."""
    store = checkpoints.taken_over(folder)
    for pass_id in passes:
        staged = store.stage(pass_id)
        (staged / SHARD).mkdir()
        table = TableFormat("embedding", config.raw["table_parameters"]["embedding"])
        for shard in range(2):
            (staged / SHARD / f"part-000-{shard:05d}.txt").write_bytes(line(shard + 2))
            (staged / SHARD / f"part-000-{shard:05d}.meta").write_bytes(table.meta(1))
        (staged / "job.json").write_bytes(IdentityCheck(config, DENSE).newest().identity.encode())
        for name in DENSE:
            (staged / name).write_bytes(name.encode())
        (staged / ".dense").mkdir()
        (staged / ".dense" / "part-000.gz").write_bytes(b"state")
        put_manifest(staged, checkpoints.manifest(pass_id, seal(staged)))
        store.publish(staged, pass_id)
    return folder


@pytest.fixture
def config(tmp_path: Path) -> JobConfig:
    return write_config(tmp_path / "mine", "job", {"bootstrap.servers": "127.0.0.1:1"})


def warm(config: JobConfig, path: Path, **options: Any) -> JobConfig:
    config.raw["runner"]["warmup_model_path"] = str(path)
    config.raw["runner"] |= options.pop("runner", {})
    config.raw["stream"]["warmup"] = options
    return JobConfig(config.path, config.raw)


def decide(config: JobConfig, dense: Mapping[str, tuple[int, ...]], own: Collection[str] = ()) -> Decided:
    """warmup.decided(), of the folder and of the same on a store: both say the same of it."""
    here, there = outcome(config, dense, own), outcome(uploaded(config), dense, own)
    bucket = f"plain://{config.path.parent}/bucket.store/theirs"
    if isinstance(here, StreamtrainError):
        assert type(there) is type(here) and there.remedy == here.remedy
        assert there.message == here.message.replace(config.runner.warmup_model_path, bucket)
        raise here
    assert isinstance(there, Decided) and (there.plan, there.source.digest) == (here.plan, here.source.digest)
    assert there.source.where == here.source.where.replace(config.runner.warmup_model_path, bucket)
    assert not list((config.model_save_path / ".views").glob("*/*"))
    return here


def outcome(config: JobConfig, dense: Any, own: Any) -> Decided | StreamtrainError:
    try:
        with warmup.decided(config, dense, own) as decided:
            for table, files in decided.source.files.items():
                assert files and all(file.is_file() for file in files), table
            return decided
    except StreamtrainError as error:
        return error


def uploaded(config: JobConfig) -> JobConfig:
    """The config, its source uploaded as it is."""
    root, bucket = Path(config.runner.warmup_model_path), config.path.parent / "bucket.store"
    if root == config.model_save_path:
        return config
    shutil.rmtree(bucket, ignore_errors=True)
    objects = ObjectStore(Location("runner.warmup_model_path", f"plain://{bucket}/theirs"))
    for file in root.rglob("*"):
        if file.is_file():
            objects.put_file(file.relative_to(root).as_posix(), file)
    runner = {**config.raw["runner"], "warmup_model_path": objects.location.url}
    return JobConfig(config.path, {**config.raw, "runner": runner})


def test_a_folder_of_checkpoints_gives_the_newest_valid_one(tmp_path: Path, config: JobConfig) -> None:
    root = made(tmp_path / "theirs", config)
    decided = decide(warm(config, root), DENSE)
    assert decided.source.path == root / "20240101" / "2" and decided.plan.dense_state
    assert {part.taken for part in decided.start.parts} == {"all"}
    (root / "20240101/2" / SHARD / "part-000-00001.txt").write_bytes(line(9))  # another digest
    assert decide(warm(config, root), DENSE).source.path == root / "20240101" / "1"
    with pytest.raises(CheckpointError, match=r"runner.warmup_model_path.*SHA-256"):
        decide(warm(config, root / "20240101" / "2"), DENSE)
    (root / "20240101/1/fc.w").unlink()
    with pytest.raises(ConfigError, match="no checkpoint that is whole"):
        decide(warm(config, root), DENSE)


def test_a_newer_format_is_refused(tmp_path: Path, config: JobConfig) -> None:
    root = made(tmp_path / "theirs", config)
    manifest = root / "20240101/2/manifest.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2'))
    for path in (root, manifest.parent):
        with pytest.raises(UnknownFormat, match=r"runner.warmup_model_path.*format is 2"):
            decide(warm(config, path), DENSE)


def test_what_is_no_source(tmp_path: Path, config: JobConfig) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").touch()
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "manifest.json").write_text('{"format": 1, "kind": "full"}')
    for path, words in (
        (tmp_path / "away", "is not there"), (tmp_path / "other", "is no checkpoint"),
        (tmp_path / "served", "is an inference model"), (config.model_save_path, "own model_save_path"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=f"runner.warmup_model_path.* {words}") as refused:
            decide(warm(config, path), DENSE)
        assert refused.value.exit_code == 2 and refused.value.remedy
    root = made(tmp_path / "theirs", config)
    with pytest.raises(ConfigError, match="save_first_base"):
        decide(warm(config, root, runner={"save_first_base": True}), DENSE)


def test_a_job_that_has_a_checkpoint_begins_from_nothing_else(tmp_path: Path, config: JobConfig) -> None:
    job = warm(config, made(tmp_path / "theirs", config))
    assert warm_start(job, BuildReport([], dense=DENSE)) is not None
    made(job.model_save_path, job, PASSES[:1])
    assert warm_start(job, BuildReport([], dense=DENSE)) is None


def test_another_table_is_refused_by_its_key(tmp_path: Path, config: JobConfig) -> None:
    root = made(tmp_path / "theirs", config)
    config.raw["table_parameters"]["embedding"]["accessor"] |= {"embedx_dim": 4, "fea_dim": 7}
    with pytest.raises(ConfigError, match=r"table_parameters.embedding.accessor.embedx_dim: 8 .* 4 now"):
        decide(warm(config, root), DENSE)
    decided = decide(warm(config, root, statistics=False), DENSE)
    assert not decided.plan.tables["embedding"].embedx and not decided.plan.dense_state


def paddlerec(folder: Path, sparse: bytes, dense: bytes) -> Path:
    for name, data in (("000", sparse), ("001", dense)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "part-000-00000").write_bytes(data)
    return folder


def test_paddlerecs_files(tmp_path: Path, config: JobConfig) -> None:
    numbers = b"".join(b"%d 0 1 0 0\n" % n for n in range(6))
    root = paddlerec(tmp_path / "theirs", line(5), gzip.compress(numbers))
    decided = decide(warm(config, root), DENSE)
    assert decided.plan.dense_state and decided.source.kind == "paddlerec"
    values, columns = dense_of_paddlerec(decided.source, DENSE)
    assert columns == 5 and values["fc.b"].tolist() == [0, 1] and values["fc.w"].tolist() == [[2, 3], [4, 5]]
    before = decided.source.digest
    paddlerec(root, line(6), numbers)
    assert decide(warm(config, root), DENSE).source.digest != before
    paddlerec(root, line(5), b"".join(b"%d 0 0\n" % n for n in range(6)))
    decided = decide(warm(config, root), DENSE)
    assert not decided.plan.dense_state and "have 3 numbers, this job's have 5" in decided.start.parts[-1].why
    with pytest.raises(ConfigError, match=r"has 6 numbers, the network has 4"):
        decide(warm(config, root), {"fc.w": (4, 1)})
    assert decide(warm(config, root, dense=False), {"fc.w": (4, 1)}).plan.dense == []


def test_paddlerecs_dense_table_has_no_mean_of_batch_norm(tmp_path: Path, config: JobConfig) -> None:
    root = paddlerec(tmp_path / "theirs", line(5), b"".join(b"%d 0 1 0 0\n" % n for n in range(6)))
    decided = decide(warm(config, root), {**DENSE, "mean": (8,)}, own=["mean"])
    assert decided.plan.dense_state and list(decided.plan.dense) == ["fc.b", "fc.w"]
    assert [part.taken for part in decided.start.parts if part.name == "mean"] == ["no"]


@pytest.mark.parametrize(
    ("sparse", "dense", "words"),
    [
        (line(5)[:-1], b"0 0 0\n" * 6, "last line of .* is cut"),
        (gzip.compress(line(5))[:-6], b"0 0 0\n" * 6, "is damaged"),
        (b"5 2 0 0 1 1 0 0\n5\n"[2:], b"0 0 0\n" * 6, "columns"),
        (line(5), b"0 x 0\n" * 6, "is no dense table"),
    ],
    ids=["cut", "cut gzip", "columns", "dense"],
)
def test_damaged_files_of_paddlerec(
    tmp_path: Path, config: JobConfig, sparse: bytes, dense: bytes, words: str
) -> None:  # fmt: skip
    root = paddlerec(tmp_path / "theirs", sparse, dense)
    with pytest.raises(StreamtrainError, match=f"runner.warmup_model_path.*{words}") as refused:
        decide(warm(config, root), DENSE)
    assert refused.value.exit_code in (2, 5) and str(root) in str(refused.value)


def test_paddlerecs_folders_are_as_many_as_the_tables(tmp_path: Path, config: JobConfig) -> None:
    root = paddlerec(tmp_path / "theirs", line(5), b"0\n")
    (root / "001").rename(root / "002")
    with pytest.raises(ConfigError, match="has the tables 000, 002, this job's are embedding"):
        open_source(root, tables_wanted(warm(config, root)))


@settings(max_examples=25)
@given(st.sets(st.integers(0, 2**64 - 1), max_size=40), st.integers(1, 7), st.booleans())
def test_every_key_is_in_its_shard(
    tmp_path_factory: pytest.TempPathFactory, keys: set[int], shards: int, packed: bool
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    (folder / "to").mkdir()
    (shape,) = tables_wanted(write_config(folder, "j", {})).values()
    parts = []
    for number in range(3):
        data = b"".join(line(key, key % 9, key % 5, key % 3) for key in keys if key % 3 == number)
        parts.append(folder / f"part-{number}")
        parts[-1].write_bytes(gzip.compress(data) if packed else data)
    count = write_table(parts, TablePlan(shape, shape, True), shards, folder / "to", folder / "counts")
    assert count == len(keys)
    files = sorted((folder / "to").iterdir())
    assert len(files) == shards
    found = {}
    for number, file in enumerate(files):
        for text in file.read_bytes().splitlines(keepends=True):
            key = int(text.split()[0])
            assert key % shards == number and key not in found
            found[key] = text
    assert found == {key: line(key, key % 9, key % 5, key % 3) for key in keys}
    (folder / ".warmup").mkdir()
    (folder / "counts").rename(folder / ".warmup" / "embedding.counts")
    kept = job_json(folder, len(keys))
    assert begin(folder, "embedding", kept) == ""
    assert kept.key.tolist() == sorted(keys)
    assert kept.show.tolist() == [k % 9 for k in sorted(keys)] and kept.unseen.tolist() == [k % 3 for k in sorted(keys)]


def job_json(folder: Path, keys: int) -> Histories:
    start = WarmStart("/x", "checkpoint", "d", (Part("table", "embedding", "all", keys=keys),))
    identity = JobIdentity(fixed={}, config={}, warmup=start)
    (folder / "job.json").write_bytes(identity.encode())
    return Histories(ShrinkRule(show_click_decay_rate=0.5, delete_threshold=0.2))


def test_counts_that_are_gone_or_damaged(tmp_path: Path) -> None:
    histories = job_json(tmp_path, 2)
    assert begin(tmp_path, "other", histories) == ""
    assert "is not there" in begin(tmp_path, "embedding", histories)
    counts = tmp_path / ".warmup" / "embedding.counts"
    counts.parent.mkdir()
    records = np.array([(1, 3, 1, 0), (2, 4, 0, 1)], "<u8,<f4,<f4,<i4")
    for wrong in (records[:1], records[[0, 0]], np.array([(1, np.nan, 1, 0), (2, 1, 1, 0)], records.dtype)):
        wrong.tofile(counts)
        with pytest.raises(CheckpointError, match=r"embedding\.counts"):
            begin(tmp_path, "embedding", histories)
    records.tofile(counts)
    assert begin(tmp_path, "embedding", histories) == ""
    histories.end_day()  # (2 - 0.5) * 0.1 + 0.5, and 2 * 0.1: which is at the threshold, so it stays
    assert histories.show.tolist() == [1.5, 2.0] and histories.unseen.tolist() == [1, 2]
    histories.end_day()
    assert histories.key.tolist() == [1] and histories.deleted == 1
    (tmp_path / "job.json").write_text('{"warmup": {"parts": 1}}')
    with pytest.raises(CheckpointError, match=r"job\.json"):
        begin(tmp_path, "embedding", histories)


def test_the_identity_keeps_what_the_job_has_begun_from(config: JobConfig) -> None:
    start = WarmStart("/x/20240101/2", "checkpoint", "ab", (Part("table", "embedding", "all", keys=3),))
    first = IdentityCheck(config).against(None, start).identity
    assert first.fixed[FIXED] == "ab" and JobIdentity.decode(first.encode()).warmup == start
    store = checkpoints.taken_over(config.model_save_path)
    staged = store.stage(PASSES[0])
    (staged / "job.json").write_bytes(first.encode())
    put_manifest(staged, checkpoints.manifest(PASSES[0], seal(staged)))
    store.publish(staged, PASSES[0])
    for path in ("", "elsewhere"):
        checked = IdentityCheck(warm(config, Path(path))).newest()
        assert checked.identity.warmup == start and checked.identity.fixed == first.fixed
    # a version that does not know the key has no such fixed key
    document = orjson.loads(first.encode())
    assert FIXED in document["fixed"] and document["warmup"]["digest"] == "ab"
    assert "warmup" not in orjson.loads(IdentityCheck(config).against(None).identity.encode())
    with pytest.raises(JobChanged):
        IdentityCheck(JobConfig(config.path, {**config.raw, "stream": {**config.raw["stream"], "job": "x"}})).newest()


def test_the_key_is_read(tmp_path: Path) -> None:
    config = write_config(tmp_path, "j", {}, runner={"warmup_model_path": "x"})
    assert load_config(config.path).no_effect == [] and config.stream.warmup.statistics


def test_an_error_of_writing_is_not_taken_for_the_sources(tmp_path: Path, config: JobConfig) -> None:
    root = paddlerec(tmp_path / "theirs", line(5), b"0 0 0\n" * 6)
    (shape,) = tables_wanted(config).values()
    with pytest.raises(FileNotFoundError):
        write_table(
            [root / "000" / "part-000-00000"], TablePlan(shape, shape, True), 2, tmp_path / "away", tmp_path / "c"
        )
    (tmp_path / "to").mkdir()
    with pytest.raises(IsADirectoryError):
        write_table([root / "000" / "part-000-00000"], TablePlan(shape, shape, True), 2, tmp_path / "to", tmp_path)


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0", "0.4.0"])
def test_checkpoints_of_older_versions(tmp_path: Path, config: JobConfig, version: str) -> None:
    """Their tables are found by the only name that there is; what differs is refused by name, not damage."""
    root = tmp_path / "theirs"
    shutil.copytree(TESTS / "fixtures" / "formats" / version, root)
    for file in root.rglob("*.hex"):
        file.with_suffix("").write_bytes(bytes.fromhex(file.read_text()))
    source = open_source(root, tables_wanted(config))
    assert source.kind == "checkpoint" and list(source.tables) == ["embedding"] and source.dense
    assert source.tables["embedding"].dim == 2
    with pytest.raises(ConfigError, match=r"embedx_dim: 2 in the source, 8 now"):
        decide(warm(config, root), DENSE)


def test_the_store_of_another_job(tmp_path: Path) -> None:
    """Its newest checkpoint, by the pointers there; a damaged one is skipped."""
    left = unpacked("0.4.0/everything", tmp_path / "left")
    url = f"plain://{tmp_path}/bucket.store/models"
    objects = ObjectStore(Location("runner.warmup_model_path", url))
    objects.put_files((file.relative_to(left).as_posix(), file) for file in left.rglob("*") if file.is_file())
    config = write_everything(tmp_path / "mine", "mine", {}, runner={"warmup_model_path": url})
    (attempt,) = (left / "checkpoints/20240101/2").iterdir()
    dense = JobIdentity.decode((attempt / "job.json").read_bytes()).dense
    with warmup.decided(config, dense) as decided:
        source = decided.source
        assert source.where == f"{url}/20240101/2" and source.digest[:16] == attempt.name.partition("-")[2]
        assert sorted(source.tables) == ["a_liked", "counted", "deep", "wide"]
        assert counted_in(source.path) == counted_in(attempt)
    assert {part.taken for part in decided.start.parts} == {"all"} and decided.start.path == source.where
    assert not source.path.exists()
    name = f"checkpoints/20240101/2/{attempt.name}/wide.shard/part-000-00000.txt"
    objects.put(name, objects.get(name) + b" ")
    with pytest.raises(ConfigError, match=f"{url} has no checkpoint that is whole"), warmup.decided(config, dense):
        pass


def test_a_store_that_refuses(tmp_path: Path, config: JobConfig) -> None:
    job = uploaded(warm(config, made(tmp_path / "theirs", config)))
    plain_store.fail(tmp_path / "mine/bucket.store", "get", -1, "fc.w")
    words = r"theirs/20240101/2/fc.w \(runner.warmup_model_path\) cannot be read: .*503"
    with pytest.raises(CheckpointError, match=words), warmup.decided(job, DENSE):
        pass
    assert not list((job.model_save_path / ".views").glob("*/*"))
