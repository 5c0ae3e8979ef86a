"""Checkpoints on disk: through the store, and by hand for the recount."""

import json
from collections.abc import Mapping
from pathlib import Path

from streamtrain.checkpoint.runs import Run
from streamtrain.checkpoint.store import CheckpointStore, put_manifest, seal
from streamtrain.contracts.manifest import FileEntry, Manifest
from streamtrain.schedule import PassId


def manifest(pass_id: PassId, files: tuple[FileEntry, ...]) -> Manifest:
    return Manifest(
        "job",
        pass_id.day,
        pass_id.pass_id,
        7,
        {"0": 5},
        "a",
        "b",
        "c",
        1,
        10,
        3,
        {},
        "f",
        "p",
        "2024-01-01T00:00:00+00:00",
        files,
    )


def taken_over(root: Path) -> CheckpointStore:
    run = Run(root)
    run.take_over()
    return CheckpointStore(root, run)


def save(store: CheckpointStore, pass_id: PassId, text: str = "rows") -> Path:
    staged = store.stage(pass_id)
    (staged / "embedding.shard").mkdir()
    (staged / "embedding.shard" / "part-0.txt").write_text(text)
    put_manifest(staged, manifest(pass_id, seal(staged)))
    path = store.publish(staged, pass_id)
    store.append_donefile(pass_id, 1)
    return path


def write_checkpoint(
    root: Path, shows: Mapping[int, tuple[float, float]], rows: int = 4, *, day: str = "20240101", pass_id: int = 2,
    **manifest: object,
) -> None:  # fmt: skip
    """shows: (show, click) by key."""
    folder = root / day / str(pass_id)
    shard = folder / "embedding.shard"
    shard.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"rows": rows, **manifest}))
    for part in range(2):
        lines = [f"{k} 2 0 0 {s} {c} 0.1 0.1\n" for k, (s, c) in shows.items() if k % 2 == part]
        (shard / f"part-{part}.txt").write_text("".join(lines))
