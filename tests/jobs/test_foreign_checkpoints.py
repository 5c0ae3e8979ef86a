"""A checkpoint's files come from others too: the digests of those here agree, and nothing in them is executed."""

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from streamtrain.errors import UnknownFormat
from tests.support.scene import Scene

pytestmark = [pytest.mark.kafka, pytest.mark.paddle]


class Touching:
    """Makes a directory when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str, int]]:
        return os.mkdir, (str(self.path), 0o700)


def rewritten(checkpoint: Path, change: Callable[[dict[str, Path]], None]) -> None:
    """Changes files of a checkpoint; then its manifest, so that it agrees with them."""
    manifest = json.loads((checkpoint / "manifest.json").read_bytes())
    change({entry["path"]: checkpoint / entry["path"] for entry in manifest["files"]})
    manifest["files"] = [
        {"path": str(p.relative_to(checkpoint)), "bytes": p.stat().st_size,
         "sha256": hashlib.sha256(p.read_bytes()).hexdigest()}
        for p in sorted(checkpoint.rglob("*")) if p.is_file() and p.name != "manifest.json"
    ]  # fmt: skip
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


def test_a_pickle_and_a_name_for_the_shell(tmp_path: Path, kafka: dict[str, str], job: str) -> None:
    scene = Scene(tmp_path, kafka, job, stream={"max_restarts": 2})
    scene.start("run").finish()
    newest = scene.config.model_save_path / scene.checkpoints()[-1]
    made = tmp_path / "made"

    good: dict[str, bytes] = {}

    def pickled(files: dict[str, Path]) -> None:
        good["out.w"] = files["out.w"].read_bytes()
        files["out.w"].unlink()  # an inference model may be a link to it
        files["out.w"].write_bytes(pickle.dumps(Touching(made), 2))

    rewritten(newest, pickled)
    run = scene.start("run", name="pickled")
    assert run.end() == UnknownFormat.exit_code, run.output
    assert f"{newest / 'out.w'} cannot be loaded: it is not a tensor" in run.output and "restart" not in run.output
    assert "Traceback" not in run.output and not made.exists()

    def named(files: dict[str, Path]) -> None:
        files["out.w"].write_bytes(good["out.w"])
        part = next(path for name, path in files.items() if name.startswith("embedding.shard/part-") and ".txt" in name)
        part.rename(part.with_name("part-$(mkdir made).txt"))

    rewritten(newest, named)
    scene.start("run", name="named").end()
    log = (tmp_path / "log" / "workerlog.0").read_text()
    assert f"checkpoint {'/'.join(newest.parts[-2:])} is SKIPPED" in log, log
    assert "'embedding.shard/part-$(mkdir made).txt' has the character '$'" in log, log
    assert not list(tmp_path.rglob("made"))
