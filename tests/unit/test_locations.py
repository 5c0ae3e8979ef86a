"""hdfs:/ and afs:/ as PaddleRec writes them, fs_client, and what is said where a library is missing."""

import logging
import sys
from importlib.util import find_spec
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from streamtrain.config import JobConfig, load_config
from streamtrain.errors import ConfigError
from streamtrain.locations import Account, Location, is_remote, location
from tests.support.jobs import write_config

HDFS = Account("hdfs://namenode:8020", "ctr", "hush")
AFS = Account("afs://cluster.afs:9902", "ctr", "hush")


@pytest.mark.parametrize(
    ("text", "account", "url", "options"),
    [
        ("hdfs:/user/x", HDFS, "hdfs://namenode:8020/user/x", {"user": "ctr"}),
        ("hdfs:/user/x", Account(), "hdfs:///user/x", {}),
        ("hdfs:/user/x", Account("hdfs://nn/", "ctr"), "hdfs://nn/user/x", {"user": "ctr"}),
        ("hdfs://namenode:8020/x", HDFS, "hdfs://namenode:8020/x", {"user": "ctr"}),
        ("hdfs://other:8020/x", HDFS, "hdfs://other:8020/x", {}),
        ("hdfs://other:8020/x", Account("", "ctr"), "hdfs://other:8020/x", {"user": "ctr"}),
        ("afs:/user/x", AFS, "afs://cluster.afs:9902/user/x", {"user": "ctr", "passwd": "hush"}),
        ("afs://cluster.afs:9902/x", AFS, "afs://cluster.afs:9902/x", {"user": "ctr", "passwd": "hush"}),
        ("s3://bucket/x", HDFS, "s3://bucket/x", {}),
    ],
)
def test_where_a_path_leads(text: str, account: Account, url: str, options: dict[str, str]) -> None:
    assert is_remote(text)
    found = location("runner.train_data_dir", text, account)
    assert (found.url, found.options) == (url, options)
    assert "hush" not in repr(found) + repr(account) + found.shown


class RefusingFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """Logs in when it is opened, as SFTP does."""

    protocol = "refusing"

    def __init__(self) -> None:
        raise LookupError("Authentication failed")


def test_a_login_that_is_refused_is_named() -> None:
    fsspec.register_implementation("refusing", RefusingFileSystem, clobber=True)
    with pytest.raises(ConfigError, match=r"train_data_dir: refusing://x cannot be opened: Authentication failed"):
        Location("runner.train_data_dir", "refusing://x").open()


@pytest.mark.parametrize("text", ["data", "/data", "hdfs", "./hdfs:x", "a:/b", "s3:/b"])
def test_local_paths_are_local(text: str) -> None:
    assert not is_remote(text)


@pytest.mark.parametrize(
    ("text", "account", "words"),
    [
        ("afs:/x", Account(), ("runner.train_data_dir: afs:/x", "runner.fs_client.uri", "afs://host:port")),
        ("hdfs:/x", AFS, ("a path of hdfs", "runner.fs_client.uri is afs://cluster.afs:9902")),
        ("hdfs:/x", Account("namenode:8020"), ("runner.fs_client.uri is namenode:8020", "hdfs://host:port")),
    ],
)
def test_a_cluster_that_is_not_known(text: str, account: Account, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        location("runner.train_data_dir", text, account)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param(
            "s3://bucket/x",
            ("runner.model_save_path: s3://bucket/x", "Install s3fs"),
            marks=pytest.mark.skipif(find_spec("s3fs") is not None, reason="s3fs is installed"),
        ),
        ("afs://h:1/x", ("Protocol not known: afs", "fsspec.specs", "user and passwd")),
        ("nix://h/x", ("Protocol not known: nix", "install fsspec's package")),
    ],
)
def test_what_is_missing_is_named(url: str, words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        Location("runner.model_save_path", url).open()
    assert all(word in str(caught.value) for word in words), caught.value


def test_hdfs_without_its_native_client(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_url: str, **_options: str) -> None:
        raise OSError("Unable to load libjvm\ndlopen failed: ..")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(
        ConfigError, match=r"hdfs://h/x cannot be opened: Unable to load libjvm. Install pyarrow.*webhdfs"
    ):
        Location("runner.train_data_dir", "hdfs://h/x").open()


class Afs(MemoryFileSystem):  # type: ignore[misc]
    """What somebody who has an AFS would register."""

    protocol = "afs"
    logins: list[tuple[object, object]] = []  # noqa: RUF012

    def __init__(self, user: object = None, passwd: object = None, **options: object) -> None:
        super().__init__(**options)
        self.logins.append((user, passwd))


def test_an_afs_that_is_registered_is_used() -> None:
    fsspec.register_implementation("afs", Afs, clobber=True)
    try:
        fs, _ = location("runner.train_data_dir", "afs:/user/x", AFS).open()
    finally:
        sys.modules["fsspec.registry"]._registry.pop("afs")
    assert isinstance(fs, Afs) and Afs.logins[-1] == ("ctr", "hush")


def config_with(folder: Path, **runner: object) -> JobConfig:
    return write_config(folder, "job", {"bootstrap.servers": "h:1"}, runner=runner)


def test_fs_client_of_a_config(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    client = {"uri": "hdfs://nn:8020", "user": "ctr", "passwd": "hush", "hadoop_bin": "/opt/hadoop/bin/hadoop"}
    with caplog.at_level(logging.DEBUG):
        config = config_with(tmp_path, fs_client=client, train_data_dir="hdfs:/logs", model_save_path="hdfs:/model")
    assert isinstance(config.data, Location) and config.data.url == "hdfs://nn:8020/logs"
    assert config.store is not None and config.store.url == "hdfs://nn:8020/model"
    assert config.model_save_path == tmp_path / ".streamtrain" / "checkpoints"
    assert config.data_dir == "hdfs://nn:8020/logs"
    assert "runner.fs_client.hadoop_bin" in config.no_effect
    shown = str(config.masked()) + repr(config.runner) + caplog.text
    assert "hush" not in shown and config.masked()["runner"]["fs_client"]["passwd"] == "********"


def test_a_number_as_a_password_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"runner\.fs_client\.passwd: .*string, found \*+") as caught:
        config_with(tmp_path, fs_client={"passwd": 918273})
    assert "918273" not in str(caught.value)


def test_the_older_names(tmp_path: Path) -> None:
    config = config_with(tmp_path, fs_name="afs://h:1", fs_ugi="ctr,hush", train_data_dir="afs:/logs")
    assert isinstance(config.data, Location) and config.data.options == {"user": "ctr", "passwd": "hush"}
    assert "hush" not in str(config.masked())


def test_a_config_is_refused_for_them(tmp_path: Path) -> None:
    config_with(tmp_path)
    path = tmp_path / "config_online.yaml"
    text = path.read_text().replace("model_save_path: model", "model_save_path: afs:/model")
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"runner\.model_save_path: afs:/model names no host"):
        load_config(path)
    path.write_text(text + "  fs_client: {urii: x}\n" if text.rstrip().endswith("runner:") else text.replace(
        "runner:\n", "runner:\n  fs_client: {urii: x}\n", 1))  # fmt: skip
    with pytest.raises(ConfigError, match=r"runner\.fs_client\.urii: unknown key"):
        load_config(path)
