"""`config check` against Paddle: its keys, and models that do not build."""

import json
import shutil
import subprocess
import sys
import threading
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient
from pydantic import BaseModel

from streamtrain.config import JobConfig
from streamtrain.config.tables import TableParameters
from streamtrain.runtime import part_state
from streamtrain.runtime.model_build import build_model
from tests.support.cli import run
from tests.support.jobs import rows, write_config, write_split
from tests.support.paths import MODEL


def shape(model: type[BaseModel]) -> dict[str, Any]:
    """Keys and kinds, as the child below gives those of Paddle."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        inner = _leaves(field.annotation)
        kind = next(k for k in inner if k is not type(None))
        found[name] = shape(kind) if isinstance(kind, type) and issubclass(kind, BaseModel) else kind.__name__
    return found


def _leaves(annotation: Any) -> list[Any]:
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _leaves(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType, list):
        return [leaf for part in typing.get_args(annotation) for leaf in _leaves(part)]
    return [annotation]


PADDLES = """
import json
from paddle.distributed.fleet.proto import distributed_strategy_pb2
KINDS = {1: "int", 2: "int", 3: "int", 4: "int", 5: "float", 6: "float", 7: "bool", 9: "str"}
def shape(descriptor):
    return {f.name: shape(f.message_type) if f.message_type else KINDS.get(f.cpp_type, "str")
            for f in descriptor.fields}
print(json.dumps(shape(distributed_strategy_pb2.TableParameter.DESCRIPTOR)))
"""


@pytest.mark.paddle
def test_the_keys_and_types_are_paddles() -> None:
    done = subprocess.run([sys.executable, "-c", PADDLES], capture_output=True, text=True, check=True)
    theirs = json.loads(done.stdout.splitlines()[-1])
    del theirs["table_id"], theirs["table_name"]  # the engine sets them
    ours = shape(TableParameters)
    assert ours["accessor"]["table_accessor_save_param"].pop("num") == "int"  # of Paddle's reading code
    assert ours == theirs


def job_with(
    folder: Path, job: str, *, net: tuple[str, str] = ("", ""), static: tuple[str, str] = ("", ""), **changes: Any
) -> JobConfig:
    """A job whose model is slot_dnn with a text replaced by another in net.py, or in static_model.py."""
    shutil.copytree(MODEL, folder / "net", ignore=shutil.ignore_patterns("__pycache__", "*.yaml"))
    for name, (old, new) in (("net.py", net), ("static_model.py", static)):
        text = (folder / "net" / name).read_text()
        assert old in text
        (folder / "net" / name).write_text(text.replace(old, new, 1))
    runner = {"model_dir": "net", "end_day": "20240101", **changes.pop("runner", {})}
    kafka = changes.pop("kafka", {"bootstrap.servers": "127.0.0.1:1"})
    return write_config(folder, job, kafka, runner=runner, stream={"max_restarts": 3}, **changes)


def problems_of(config: JobConfig) -> list[str]:
    report = build_model(config)
    assert report is not None
    assert sorted(p.name for p in config.path.parent.iterdir()) == ["config_online.yaml", "data", "net"]
    assert not list((config.path.parent / "net").glob("__pycache__"))
    return [message for message, _ in report.problems]


_WIDTH = "        width = self._width\n"


@pytest.mark.paddle
@pytest.mark.parametrize(
    ("changes", "file", "line", "words"),
    [
        ({"net": ("pooled = []", "pooled = [")}, "net.py", "pooled = [", "SyntaxError"),
        ({"net": ("import paddle\n", "import paddel\n")}, "net.py", "import paddel", "No module named 'paddel'"),
        ({"net": (_WIDTH, "        raise SystemExit(0)\n")}, "net.py", "raise SystemExit", "SystemExit: 0"),
        ({"net": (_WIDTH, "        __import__('ctypes').string_at(0)\n")}, "net.py", "string_at", "SIGSEGV"),
        ({"static": ("slots = feeds", "slots = feedz")}, "static_model.py", "feedz", "NameError: name 'feedz'"),
        (
            {"net": (_WIDTH, f"{_WIDTH}        layer = paddle.matmul(layer, paddle.ones([7, 3]))\n")},
            "net.py", "paddle.matmul", "InvalidArgumentError",
        ),
        ({"hyper_parameters": {"emb_dim": "nine"}}, "static_model.py", "emb_dim\")", "hyper_parameters.emb_dim: nine"),
        (
            {"hyper_parameters": {"layer_sizes": "512,256"}}, "static_model.py", "raise TypeError",
            "hyper_parameters.layer_sizes: a list of whole numbers is wanted",
        ),
    ],
)  # fmt: skip
def test_a_models_error_names_its_line(
    tmp_path: Path, changes: dict[str, Any], file: str, line: str, words: str
) -> None:
    (problem,) = problems_of(job_with(tmp_path, "job", **changes))
    source = (tmp_path / "net" / file).read_text().splitlines()
    number = next(n for n, text in enumerate(source, 1) if line in text)
    assert f"{tmp_path / 'net' / file}, line {number}" in problem and words in problem, problem
    assert "C++" not in problem and "Traceback" not in problem and "\n" not in problem


@pytest.mark.paddle
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"net": (_WIDTH, "        import os; os._exit(0)\n")}, "its code ends the process"),
        ({"hyper_parameters": {"emb_dim": 12}}, "accessor.embedx_dim: 8, which gives embeddings of 9 numbers"),
        (
            {
                "hyper_parameters": {"slot_num": 3},
                "static": ('"hyper_parameters.slot_num"', '"hyper_parameters.nix", 4'),
            },
            "has 4 slots",
        ),
        ({"net": ('name="embedding"', 'name="other"')}, "table_parameters.embedding: the network's table is other"),
    ],
)
def test_a_model_that_is_not_the_jobs(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    (problem,) = problems_of(job_with(tmp_path, "job", **changes))
    assert words in problem


@pytest.mark.paddle
def test_a_model_that_builds(tmp_path: Path) -> None:
    config = job_with(tmp_path, "job")
    report = build_model(config)
    assert report is not None and (report.problems, report.slots, report.width) == ([], 4, 9)
    assert report.dense == {"fc_0.w": (36, 8), "fc_0.b": (8,), "out.w": (8, 1), "out.b": (1,)}
    done = run("config", "check", "-m", str(config.path))
    assert done.returncode == 0, done.stderr
    assert "# the model builds: 4 slots, embeddings of 9 numbers, 4 dense parameters of 305 numbers" in done.stdout


@pytest.mark.paddle
def test_a_model_that_takes_too_long_and_a_stop(tmp_path: Path) -> None:
    config = job_with(tmp_path, "job", net=(_WIDTH, "        while True: pass\n"))
    report = build_model(config, seconds=0.5)
    assert report is not None and "does not build within 0 s" in report.problems[0][0]
    stop = threading.Event()
    stop.set()
    assert build_model(config, stop) is None


@pytest.mark.paddle
def test_all_problems_at_once(tmp_path: Path) -> None:
    config = job_with(
        tmp_path, "job", net=("pooled = []", "pooled = ["), runner={"train_data_dir": "nowhere"},
        kafka={"bootstrap.servers": "127.0.0.1:1", "nix": "1"},
    )  # fmt: skip
    done = run("config", "check", "-m", str(config.path), "--json")
    keys = [line.split(": ")[0] for line in json.loads(done.stdout)["problems"]]
    assert (done.returncode, keys) == (2, ["runner.train_data_dir", "kafka.nix", "the model cannot be imported"])
    done = run("config", "check", "-m", str(config.path), "--no-model")
    assert done.returncode == 2 and "kafka.nix" in done.stderr and "model" not in done.stderr


@pytest.mark.kafka
@pytest.mark.paddle
def test_a_bad_model_ends_run_and_train_before_anything(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    config = job_with(tmp_path, job, kafka=kafka, net=("pooled = []", "pooled = ["))
    for command in ("run", "train"):
        done = run(command, "-m", str(config.path))
        assert done.returncode == 2 and f"{tmp_path / 'net' / 'net.py'}, line 33: SyntaxError" in done.stderr
        assert not (tmp_path / "model").exists() and not (tmp_path / "log").exists()
        assert not [name for name in AdminClient(kafka).list_topics(timeout=10).topics if name.startswith(job)]
        parts = {part.part: part for part in part_state.read(config.state_dir)}
        part = parts["run" if command == "run" else "trainer"]
        assert f"error: {part.doing.removeprefix('failed with exit code 2: ')}\n" in done.stderr


@pytest.mark.kafka
@pytest.mark.paddle
def test_changes_of_a_trained_model(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    """A changed layer is refused by the parent; what only the roles can find is final there."""
    config = job_with(tmp_path, job, kafka=kafka)
    for split in ("20240101/0000", "20240101/1200"):
        write_split(tmp_path / "data", split, rows(60))
    done = run("run", "-m", str(config.path), seconds=150)
    assert done.returncode == 0, done.stderr
    before = (tmp_path / "log" / "workerlog.0").read_bytes()

    good = config.path.read_text()
    config.path.write_text(good.replace("layer_sizes:\n  - 8", "layer_sizes:\n  - 9"))
    done = run("run", "-m", str(config.path))
    assert done.returncode == 18 and "hyper_parameters.layer_sizes: [8] in the checkpoint, [9] now" in done.stderr
    assert "dense parameter fc_0.w: [36, 8] in the checkpoint, [36, 9] now" in done.stderr
    assert (tmp_path / "log" / "workerlog.0").read_bytes() == before

    config.path.write_text(good.replace("slot_num: 4", "slot_num: 3"))
    for command in ("recount", "consistency"):
        done = run(command, "-m", str(config.path))
        assert done.returncode == 18 and "stream.slots: [2, 3, 4, 5] in the checkpoint" in done.stderr
    config.path.write_text(good.replace("partitions: 2", "partitions: 3"))
    done = run("recount", "-m", str(config.path))
    assert done.returncode == 0, done.stderr

    config.path.write_text(good)
    net = tmp_path / "net" / "net.py"
    lines = [*net.read_text().splitlines(), "import os", "if 'STREAMTRAIN_OWNER' in os.environ: nix"]
    net.write_text("\n".join(lines))
    done = run("run", "-m", str(config.path))
    sentence = f"{net}, line {len(lines)}: NameError: name 'nix' is not defined"
    assert done.returncode == 2 and "restart" not in done.stdout + done.stderr, done.stdout + done.stderr
    assert sentence in done.stderr and sentence in (tmp_path / "log" / "workerlog.0").read_text()
    assert any(sentence in part.doing for part in part_state.read(config.state_dir))
