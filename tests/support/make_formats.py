"""Makes tests/fixtures/formats/<version>/: a small job, run by the code of that version, and what it left in text;
`everything` makes everything/ in it, by this version: a job whose network has all that a network may have, with its
checkpoints on a store.

    python -m tests.support.make_formats COMMIT|this|everything FOLDER

README.md there says what the files are. Paths and host names of this machine are replaced, and so are the sizes and
digests of the files that have them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import confluent_kafka as ck

from streamtrain.kafka.embedded import EmbeddedBroker
from tests.support.everything_job import rich_rows, write_everything
from tests.support.jobs import write_config, write_split
from tests.support.models import model_that_dumps
from tests.support.paths import ROOT
from tests.support.plain_store import ENTRY_POINTS, download
from tests.support.topics import messages
from tests.support.versions import NEW, Version, unpack

JOB = "ctr"
EVERYTHING = "everything"
#: Of each pass of that job.
EVERYTHING_ROWS = (5, 4)
LINES = ["1:1 11:2 22:3", "0:1 11:2", "0:1 18446744073709551615:2 33:3", "no row"]
RULE = {"adagrad": {"learning_rate": 0.1, "initial_g2sum": 1.0}}
SMALL: dict[str, Any] = {
    "hyper_parameters": {"slot_num": 2, "emb_dim": 3, "layer_sizes": [1]},
    "table_parameters": {
        "embedding": {
            "table_class": "MemorySparseTable",
            "shard_num": 1,
            "accessor": {
                "accessor_class": "SparseAccessor",
                "fea_dim": 5,
                "embedx_dim": 2,
                "embedx_threshold": 0,
                "embed_sgd_param": {"name": "SparseAdaGradSGDRule", **RULE},
                "embedx_sgd_param": {"name": "SparseAdaGradSGDRule", **RULE},
                "ctr_accessor_param": {"show_click_decay_rate": 1.0, "delete_threshold": 0.0, "delta_keep_days": 16.0},
            },
        }
    },
}


def run_job(folder: Path, kafka: dict[str, str], version: Version) -> None:
    """One day of two passes, with inference models and dumps."""
    model = model_that_dumps(folder / "network", "[predicted]", "[]", "[]")
    new = version is NEW
    config = write_config(
        folder, JOB, kafka,
        runner={
            "end_day": "20240101", "save_delta_frequency": 1, "model_dir": str(model),
            **({} if new else {"need_infer_dump": True, "infer_dump_fields_dir": "dump", "infer_data_dir": "data"}),
        },
        stream={
            "partitions": 1, "max_reject_ratio": 0.5, "servers": 1, "workers": 1,
            **({"predict_dump_dir": "dump"} if new else {}),
        },
        **SMALL,
    )  # fmt: skip
    write_split(folder / "data", "20240101/0000", LINES)
    write_split(folder / "data", "20240101/1200", LINES[:2])
    command = [sys.executable, "-m", "streamtrain.cli.main", "run", "-m", str(config.path)]
    subprocess.run(command, check=True, env={**os.environ, **version.environment}, cwd=folder)


def rewind(folder: Path, out: Path) -> None:
    command = [sys.executable, "-m", "streamtrain.cli.main", "checkpoints", "rewind", "--to", "20240101/1"]
    subprocess.run([*command, "-m", str(folder / "config_online.yaml")], check=True, cwd=folder)
    (intent,) = (folder / "model" / ".set-aside").glob("*/rewind.json")
    copy(intent, out / "rewind.json")


def harvest(folder: Path, kafka: dict[str, str], out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    model = folder / "model"
    for name in ("donefile.txt", "base_donefile.txt", "patch_donefile.txt", "passes.jsonl"):
        copy(model / name, out / name)
    for file in sorted((model / "20240101" / "2").rglob("*")):
        if file.is_file():
            copy(file, out / "20240101" / "2" / file.relative_to(model / "20240101" / "2"))
    for place in ("20240101/inference_model_1", "20240101/inference_model_2"):
        for file in sorted((model / place).rglob("*")):
            if file.is_file() and file.parent.name != "model":  # the network, of some thousand bytes
                copy(file, out / place / file.relative_to(model / place))
    for file in sorted((folder / "dump").rglob("*")):
        if file.is_file():
            copy(file, out / "dump" / file.relative_to(folder / "dump"))
    for file in sorted((folder / ".streamtrain" / "state").glob("*.json")):
        copy(file, out / "state" / file.name)
    for topic in ("samples", "splits", "rejects"):
        (out / f"{topic}.jsonl").write_text("".join(map(line_of, messages(kafka, f"{JOB}.{topic}"))))
    witness(kafka, JOB, out)
    neutral(out, names_here(folder, kafka))


def run_everything(folder: Path, kafka: dict[str, str]) -> None:
    """One day of two passes, its checkpoints and models on a store."""
    config = write_everything(
        folder, EVERYTHING, kafka,
        runner={"end_day": "20240101", "model_save_path": f"plain://{folder / 'bucket'}.store/models"},
        stream={"checkpoint_dir": "cache", "inference_model": "both", "servers": 1, "workers": 1, "partitions": 1},
    )  # fmt: skip
    for number, count in enumerate(EVERYTHING_ROWS):
        lines = [row.line() for row in rich_rows(count, seed=number)]
        write_split(folder / "data", config.schedule.split(number).path, lines)
    paths = os.pathsep.join((str(ROOT), str(ENTRY_POINTS)))
    command = [sys.executable, "-m", "streamtrain.cli.main", "run", "-m", str(config.path)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths}, cwd=folder)


def harvest_everything(folder: Path, kafka: dict[str, str], out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    there = download(folder / "bucket.store", folder / "there") / "models"
    for file in sorted(path for path in there.rglob("*") if path.is_file()):
        place = file.relative_to(there)
        kept = place.parts[0] != "checkpoints" or (place.parts[2] == "2" and "models" not in place.parts)
        if (kept and file.parent.name != "model") or file.name == "manifest.json":
            copy(file, out / place)
    for topic in ("samples", "splits"):
        (out / f"{topic}.jsonl").write_text("".join(map(line_of, messages(kafka, f"{EVERYTHING}.{topic}"))))
    witness(kafka, EVERYTHING, out)
    neutral(out, names_here(folder, kafka))


def witness(kafka: dict[str, str], job: str, out: Path) -> None:
    group = ck.Consumer({**kafka, "group.id": job})
    (committed,) = group.committed([ck.TopicPartition(f"{job}.splits", 0)])
    group.close()
    (out / "witness.json").write_text(json.dumps({"offset": committed.offset, "metadata": committed.metadata}) + "\n")


def names_here(folder: Path, kafka: dict[str, str]) -> dict[str, str]:
    """What names this machine, and what stands for it in the fixtures."""
    return {str(folder): "/data/job", str(ROOT): "/data/streamtrain", socket.gethostname(): "host",
            kafka["bootstrap.servers"]: "127.0.0.1:9092"}  # fmt: skip


def line_of(message: Any) -> str:
    headers = {name: value.decode() for name, value in message.headers() or ()}
    return json.dumps({"headers": headers, "value": base64.b64encode(message.value()).decode()}) + "\n"


def copy(file: Path, to: Path) -> None:
    """Text as it is, other bytes as hex."""
    to.parent.mkdir(parents=True, exist_ok=True)
    data = file.read_bytes()
    try:
        binary = "\0" in data.decode()
    except UnicodeDecodeError:
        binary = True
    if binary:
        to.with_name(f"{to.name}.hex").write_text(data.hex() + "\n")
    else:
        to.write_bytes(data)


def neutral(out: Path, names: dict[str, str]) -> None:
    """Replaces names; then what manifests, pointers and the witness say of the files that changed, and the names of
    the objects that have a manifest's digest in them."""
    changed: dict[str, str] = {}
    for file in sorted((file for file in out.rglob("*") if file.is_file()), key=order):
        before = file.read_bytes()
        text = before.decode()
        for name, other in names.items():
            text = text.replace(name, other)
        for digest, other in changed.items():
            text = text.replace(digest, other).replace(digest[:16], other[:16])
        if file.name == "manifest.json" and text != before.decode():
            text = with_sizes(text, file.parent)
        file.write_text(text)
        changed[hashlib.sha256(before).hexdigest()] = hashlib.sha256(text.encode()).hexdigest()
    short = {digest[:16]: other[:16] for digest, other in changed.items()}
    for path in sorted(out.rglob("*"), reverse=True):
        for digest in [digest for digest in short if digest in path.name]:
            path.rename(path.with_name(path.name.replace(digest, short[digest])))


def order(file: Path) -> tuple[int, str, int]:
    """A file comes after those whose digests are in it: a model's manifest, a checkpoint's, the next one's; pointers,
    donefiles, and the witness."""
    if file.name == "manifest.json":
        return 1, str(file.parent).partition("/models")[0], -len(file.parts)
    late = file.name == "witness.json" or file.parent.parent.name == "commits" or "donefile" in file.name
    return (2 if late else 0), str(file), 0


def with_sizes(manifest: str, directory: Path) -> str:
    """The manifest's text with the sizes of the text files as they are now; its form is that of json_codec.encode."""
    values = json.loads(manifest)
    for entry in values["files"]:
        if (directory / entry["path"]).is_file():
            entry["bytes"] = (directory / entry["path"]).stat().st_size
    return json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main(what: str, out: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch, EmbeddedBroker(Path(scratch) / "kafka") as broker:
        kafka = {"bootstrap.servers": broker.bootstrap}
        folder = Path(scratch) / "job"
        folder.mkdir()
        if what == "everything":
            run_everything(folder, kafka)
            harvest_everything(folder, kafka, out / "everything")
            return
        version = NEW if what == "this" else unpack(what, what, Path(scratch) / "tree")
        run_job(folder, kafka, version)
        harvest(folder, kafka, out)
        if version is NEW:
            rewind(folder, out)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
