"""Whole objects on a store like S3, on one that has directories, and faults of both."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamtrain import object_store
from streamtrain.errors import CheckpointError
from streamtrain.locations import Location
from streamtrain.object_store import ATTEMPTS, THREADS, ObjectStore
from tests.support.plain_store import fail, objects
from tests.support.web_hdfs import Cluster, cluster


@pytest.fixture
def hdfs(tmp_path: Path) -> Iterator[Cluster]:
    with cluster(tmp_path / "hdfs") as running:
        yield running


@pytest.fixture(params=["plain", "file", "memory", "webhdfs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    at = request.getfixturevalue("hdfs").host if request.param == "webhdfs" else tmp_path
    return ObjectStore(Location("runner.model_save_path", f"{request.param}://{at}/bucket.store/models"))


def test_what_is_put_is_there_whole(store: ObjectStore, tmp_path: Path) -> None:
    assert (store.objects(""), store.directories("a"), store.exists("a/b")) == ([], [], False)
    store.put("a/b", b"one")
    store.put("a/b", b"two")
    local = tmp_path / "file"
    local.write_bytes(b"x" * 10_000_000)
    store.put_files([("a/c/d", local), ("e", local)])
    assert store.get("a/b") == b"two" and store.exists("a/b")
    assert store.objects("") == ["a/b", "a/c/d", "e"] and store.objects("a") == ["b", "c/d"]
    assert store.directories("") == ["a", "e"] and store.directories("a") == ["b", "c"]
    assert store.get_file("e", tmp_path / "back") == hashlib.sha256(local.read_bytes()).hexdigest()
    assert (tmp_path / "back").read_bytes() == local.read_bytes()
    store.delete("e")
    store.delete("e")
    store.delete_all("a")
    store.delete_all("a")
    assert store.objects("") == [] and not store.exists("a")
    for missing in (lambda: store.get("e"), lambda: store.get_file("e", local)):
        with pytest.raises(FileNotFoundError):
            missing()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "wait_exponential_jitter", lambda **_: lambda _state: 0)


@pytest.mark.usefixtures("quick")
def test_a_fault_that_passes_is_tried_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = ObjectStore(Location("runner.model_save_path", f"plain://{tmp_path}/b.store"))
    store.put("a", b"old")
    fail(tmp_path / "b.store", "put", ATTEMPTS - 1)
    store.put("a", b"new")
    assert store.get("a") == b"new" and "a: StoreError: 503 on put: Slow Down; tried again" in caplog.text


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("method", "call", "how"),
    [
        ("put", lambda store, _: store.put("a", b"new"), "written"),
        ("put", lambda store, local: store.put_files([("a", local)]), "written"),
        ("get", lambda store, _: store.get("a"), "read"),
        ("get", lambda store, local: store.get_file("a", local), "read"),
        ("ls", lambda store, _: store.directories("a"), "listed"),
        ("rm", lambda store, _: store.delete("a"), "deleted"),
    ],
)
def test_a_fault_that_stays_is_named(
    tmp_path: Path, method: str, call: Callable[[ObjectStore, Path], object], how: str
) -> None:
    store = ObjectStore(Location("runner.model_save_path", f"plain://{tmp_path}/b.store"))
    store.put("a", b"old")
    local = tmp_path / "local"
    local.write_bytes(b"half")
    fail(tmp_path / "b.store", method, -1)
    with pytest.raises(
        CheckpointError, match=rf"b\.store/a \(runner\.model_save_path\) cannot be {how}: StoreError: 503"
    ):
        call(store, local)
    fail(tmp_path / "b.store", method, 0)
    assert objects(tmp_path / "b.store") == {"a": b"old"}  # nothing of the half that was put


@pytest.mark.usefixtures("quick")
def test_a_disk_that_is_in_the_way_is_no_missing_object(tmp_path: Path) -> None:
    (tmp_path / "bucket").write_text("a file")
    store = ObjectStore(Location("runner.model_save_path", f"file://{tmp_path}/bucket/models"))
    with pytest.raises(CheckpointError, match="cannot be written"):
        store.put("a", b"x")


@pytest.mark.usefixtures("quick")
def test_a_directory_that_may_not_be_listed_is_no_empty_one(hdfs: Cluster) -> None:
    store = ObjectStore(Location("runner.model_save_path", f"webhdfs://{hdfs.host}/models"))
    for name in ("aside/1/a", "aside/2/b", "aside/2/c/d"):
        store.put(name, b"x")
    assert store.objects("aside") == ["1/a", "2/b", "2/c/d"]
    hdfs.forbidden.add("/models/aside/2/c")
    with pytest.raises(CheckpointError, match=r"aside \(runner\.model_save_path\) cannot be listed: PermissionError"):
        store.objects("aside")


@pytest.mark.usefixtures("quick")
def test_the_words_of_an_error_are_no_content(hdfs: Cluster, tmp_path: Path) -> None:
    """fsspec gives what a DataNode says of an error as the file's content: it would be a damaged checkpoint."""
    store = ObjectStore(Location("runner.model_save_path", f"webhdfs://{hdfs.host}/models"))
    data = bytes(range(256)) * 300
    store.put("a", data)
    hdfs.refused = 2
    assert store.get("a") == data
    hdfs.refused = 2
    assert store.get_file("a", tmp_path / "a") == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "a").read_bytes() == data
    hdfs.refused = 1 << 30
    with pytest.raises(CheckpointError, match=r"a \(runner\.model_save_path\) cannot be read: OSError: .*76800 bytes"):
        store.get("a")


def test_a_name_that_is_replaced_leaves_no_other(hdfs: Cluster) -> None:
    store = ObjectStore(Location("runner.model_save_path", f"webhdfs://{hdfs.host}/models"))
    for data in (b"one", b"two", b"three"):
        store.put("donefile.txt", data)
        assert store.get("donefile.txt") == data
    assert store.objects("") == ["donefile.txt"]


@pytest.mark.usefixtures("quick")
def test_a_store_that_fails_ends_an_upload_of_many_files(tmp_path: Path) -> None:
    """Each that was begun is tried ATTEMPTS times; the others are not begun."""
    store = ObjectStore(Location("runner.model_save_path", f"plain://{tmp_path}/b.store"))
    local = tmp_path / "local"
    local.write_bytes(b"x")
    store.put("a", b"x")
    fail(tmp_path / "b.store", "put", -1)
    with pytest.raises(CheckpointError, match="cannot be written: StoreError: 503"):
        store.put_files((f"many/{number}", local) for number in range(200))
    calls = (tmp_path / "b.store" / ".faulty").read_text().count("put ")
    assert calls < 3 * THREADS * ATTEMPTS


@pytest.mark.usefixtures("quick")
def test_what_the_local_disk_refuses_is_not_the_store(tmp_path: Path) -> None:
    """A folder that a newer run has taken away is not an object that is absent."""
    store = ObjectStore(Location("runner.model_save_path", f"plain://{tmp_path}/b.store"))
    store.put("a", b"x")
    with pytest.raises(CheckpointError, match=r"gone/a cannot be written: No such file.*Check the folder"):
        store.get_file("a", tmp_path / "gone" / "a")
    with pytest.raises(CheckpointError, match=r"gone/a cannot be read: No such file.*Check the folder"):
        store.put_file("b", tmp_path / "gone" / "a")
    with pytest.raises(CheckpointError, match=r"/dev/full cannot be written: No space left.*Free some space"):
        store.get_file("a", Path("/dev/full"))
