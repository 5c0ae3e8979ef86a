"""What is found without starting a job; the model apart, which needs Paddle."""

import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from streamtrain.config import load_config
from streamtrain.errors import CheckpointError, ConfigError
from streamtrain.runtime import part_state
from streamtrain.runtime.part_state import PartReporter, beginning
from streamtrain.runtime.preflight import MAX_TMPDIR, problems, refuse, why_not_written
from tests.support.jobs import write_config
from tests.support.scene import can_mount, tmpfs
from tests.support.shy_files import ShyFileSystem

KAFKA = {"bootstrap.servers": "127.0.0.1:1"}


def found(folder: Path, *, bridge: bool = True, **changes: Any) -> list[str]:
    kafka = {**KAFKA, **changes.pop("kafka", {})}
    return [str(p) for p in problems(write_config(folder, "job", kafka, **changes), bridge=bridge)]


INFER = {"need_infer_dump": True, "infer_data_dir": "data"}


def test_a_good_job_has_none_and_nothing_is_made(tmp_path: Path) -> None:
    assert found(tmp_path) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config_online.yaml", "data"]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"runner": {"model_save_path": "file"}}, "runner.model_save_path"),
        ({"runner": {"model_save_path": "file/below/it"}}, "runner.model_save_path"),
        ({"runner": {"model_save_path": "memory://m"}, "stream": {"checkpoint_dir": "file"}}, "stream.checkpoint_dir"),
        ({"stream": {"state_dir": "file"}}, "stream.state_dir"),
        ({"stream": {"spool_dir": "file/spool"}}, "stream.spool_dir"),
        ({"runner": {**INFER, "infer_dump_fields_dir": "file"}}, "runner.infer_dump_fields_dir"),
        ({"runner": {**INFER, "infer_data_dir": "nowhere"}}, "runner.infer_data_dir"),
        ({"runner": {**INFER, "infer_data_dir": "file"}}, "runner.infer_data_dir"),
        ({"stream": {"predict_dump_dir": "file"}}, "stream.predict_dump_dir"),
        ({"runner": {"train_data_dir": "nowhere"}}, "runner.train_data_dir"),
        ({"runner": {"train_data_dir": "nix://h/logs"}}, "runner.train_data_dir"),
        ({"runner": {"model_save_path": "nix://h/model"}}, "runner.model_save_path"),
        ({"runner": {"train_data_dir": "file"}}, "runner.train_data_dir"),
        ({"stream": {"format": "nowhere:parse"}}, "stream.format"),
        ({"kafka": {"bootstrap.server": "x"}}, "kafka.bootstrap.server"),
        ({"kafka": {"sasl.password": "${NOWHERE_SET}"}}, "kafka.sasl.password"),
    ],
)
def test_one_thing_that_is_wrong(tmp_path: Path, changes: dict[str, Any], key: str) -> None:
    (tmp_path / "file").touch()
    (line,) = found(tmp_path, **changes)
    assert line.startswith(f"{key}: ")


def test_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    (tmp_path / "model").touch()
    lines = found(
        tmp_path, runner={"train_data_dir": "nowhere"}, stream={"format": "nowhere:parse"}, kafka={"nix": "1"}
    )
    assert [line.split(": ")[0] for line in lines] == [
        "runner.train_data_dir", "stream.format", "runner.model_save_path", str(tmp_path / "config_online.yaml"),
        "kafka.nix",
    ]  # fmt: skip


def test_a_trainer_needs_neither_data_nor_parse_function(tmp_path: Path) -> None:
    changes = {"runner": {"train_data_dir": "nowhere"}, "stream": {"format": "nowhere:parse"}}
    assert found(tmp_path, bridge=False, **changes) == []


def test_what_must_be_there(tmp_path: Path) -> None:
    config = write_config(tmp_path, "job", KAFKA)
    del config.raw["table_parameters"], config.raw["hyper_parameters"]["slot_num"]
    slots, table = (str(p) for p in problems(config))
    assert "stream.slots" in slots and table.startswith("table_parameters: required")


def test_data_that_cannot_be_seen(tmp_path: Path) -> None:
    ShyFileSystem().makedirs("/logs/20240101", exist_ok=True)
    ShyFileSystem.refuse("ls", "/logs", PermissionError(13, "Permission denied"))
    (line,) = found(tmp_path, runner={"train_data_dir": "shy://logs"})
    assert "logs" in line and "Permission denied" in line


def test_a_run_waits_for_data_that_cannot_be_seen(tmp_path: Path) -> None:
    ShyFileSystem().makedirs("/later/20240101", exist_ok=True)
    ShyFileSystem.refuse("ls", "/later", PermissionError(13, "Permission denied"))
    config = write_config(tmp_path, "job", KAFKA, runner={"train_data_dir": "shy://later"})
    stop = threading.Event()
    stop.set()  # before the model is built
    refuse(config, bridge=True, stop=stop)
    assert ("ls", "/later") in ShyFileSystem.calls


def test_a_parse_function_that_fails_names_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "failing_format.py").write_text("\nimport sys\nsys.exit()\n")
    (line,) = found(tmp_path, stream={"format": "failing_format:parse"})
    assert line.startswith("stream.format: ") and f"{tmp_path / 'failing_format.py'}, line 3: SystemExit" in line


def test_folders(tmp_path: Path) -> None:
    assert why_not_written(tmp_path) == "" == why_not_written(tmp_path / "a" / "b")
    (tmp_path / "file").touch()
    assert why_not_written(tmp_path / "file") == f"{tmp_path / 'file'} is a file, a folder is wanted"
    assert why_not_written(tmp_path / "file" / "b").startswith(f"{tmp_path / 'file' / 'b'} cannot be made: ")
    (tmp_path / "broken").symlink_to("nowhere")
    assert why_not_written(tmp_path / "broken" / "b").endswith(f"{tmp_path / 'broken'} is a link to nothing")


@pytest.mark.skipif(not can_mount(), reason="needs mount")
def test_a_read_only_file_system(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", 1) as disk:
        write_config(disk, "job", KAFKA)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        lines = [str(p) for p in problems(load_config(disk / "config_online.yaml"))]
        assert [line.split(": ")[0] for line in lines] == [
            "runner.model_save_path", "stream.state_dir", "stream.spool_dir", str(disk / "config_online.yaml"),
        ]  # fmt: skip
        assert all(f"{disk} cannot be written (its file system is read-only)" in line for line in lines)


def test_status_says_how_a_trainer_failed(tmp_path: Path) -> None:
    config = write_config(tmp_path, "job", KAFKA)
    error = ConfigError("the model does not build: \udcff", remedy="Correct it")
    with pytest.raises(ConfigError), beginning(config.state_dir, "trainer"):
        raise error
    (state,) = part_state.read(config.state_dir)
    assert (state.part, state.doing) == ("trainer", f"failed with exit code 2: {error}")


def test_a_running_trainer_is_not_overwritten(tmp_path: Path) -> None:
    config = write_config(tmp_path, "job", KAFKA)
    PartReporter(config.state_dir, "trainer")("training")  # this process is alive
    with pytest.raises(ConfigError), beginning(config.state_dir, "trainer"):
        raise ConfigError("no")
    (state,) = part_state.read(config.state_dir)
    assert state.doing == "training"


def test_a_temporary_folder_of_a_long_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers would end with EOFError, again and again."""
    config = write_config(tmp_path, "job", KAFKA)
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * MAX_TMPDIR)
    assert any(f"has {MAX_TMPDIR + 1} bytes" in str(p) for p in problems(config))
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * (MAX_TMPDIR - 1))
    assert not any("TMPDIR" in str(p) for p in problems(config))


def test_a_damaged_rewind_ends_a_start_at_once(tmp_path: Path) -> None:
    config = write_config(tmp_path, "job", KAFKA)
    config.model_save_path.mkdir()
    (config.model_save_path / "rewind.json").write_text('{"to":')
    with pytest.raises(CheckpointError, match=r"rewind\.json is damaged"):
        refuse(config, bridge=False)


def test_directories_that_no_split_is_are_a_wrong_interval(tmp_path: Path) -> None:
    config = write_config(tmp_path, "job", KAFKA)
    (tmp_path / "data" / "20240101" / "0030").mkdir(parents=True)
    assert any("20240101/0030, which are no splits of 720 minutes" in str(p) for p in problems(config))
