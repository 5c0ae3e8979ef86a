"""manifest.json: what a checkpoint is and where in the stream it stands. Pure.

The file is the truth about a job's position; the consumer group's offsets are its witness. Its SHA-256 is
the checkpoint's digest.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from streamtrain.schedule import PassId

FORMAT = 1
NAME = "manifest.json"


@dataclass(frozen=True)
class FileEntry:
    """A file of the checkpoint: path below its directory, size in bytes, SHA-256 in hex."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class ModelRef:
    """An inference model: its day and pass_id (0: before the day's first pass), SHA-256 of its manifest.json."""

    day: str
    pass_id: int
    digest: str


@dataclass(frozen=True)
class ModelChain:
    """What an incremental inference model patches: base, the newest full one; previous, the newest of all (the base
    or an incremental one over it); shrinks, deletions: see Manifest, at `previous`."""

    base: ModelRef
    previous: ModelRef
    shrinks: int
    deletions: int


@dataclass(frozen=True)
class Manifest:
    """A checkpoint's manifest.

    marker_offset: marker-log offset that the next pass's segment starts at. offsets: the same for each
    partition of the samples topic, as text keys (JSON). rows: trained since the job's start. keys: in the
    sparse table. metrics: the pass's PassRecord, which a crash right after the rename keeps out of passes.jsonl.
    shrinks: day ends at which keys were shrunk; deletions: keys that these have deleted. late_rows: of revisions that
    came after their split's pass.
    untrained: passes (day/pass_id) that the gate kept from training; `rows` is without theirs. event_time: the end
    of the newest split in the model, ISO 8601. models: inference models published together with it. chain: what the
    next incremental one patches.
    """

    job: str
    day: str
    pass_id: int
    marker_offset: int
    offsets: dict[str, int]
    samples_topic_id: str
    splits_topic_id: str
    cluster_id: str
    partitions: int
    rows: int
    keys: int
    metrics: dict[str, Any]
    config_sha256: str
    program: str
    created: str
    files: tuple[FileEntry, ...]
    shrinks: int = 0
    deletions: int = 0
    late_rows: int = 0
    untrained: tuple[str, ...] = ()
    event_time: str = ""
    models: tuple[ModelRef, ...] = ()
    chain: ModelChain | None = None
    format: int = FORMAT

    @property
    def of(self) -> PassId:
        return PassId(self.day, self.pass_id)

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Raises ValueError when it is damaged or of a newer format."""
        try:
            values = orjson.loads(data)
            if values.get("format") != FORMAT:
                raise ValueError(f"its format is {values.get('format')}, this version reads {FORMAT}")
            values["files"] = tuple(FileEntry(**f) for f in values["files"])
            values["models"] = tuple(ModelRef(**m) for m in values.get("models", ()))
            values["chain"] = _chain(values.get("chain"))
            values["untrained"] = tuple(values.get("untrained", ()))
            return cls(**values)
        except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"it is no manifest: {error}") from error


def _chain(values: dict[str, Any] | None) -> ModelChain | None:
    if values is None:
        return None
    return ModelChain(
        ModelRef(**values["base"]),
        ModelRef(**values["previous"]),
        values.get("shrinks", -1),
        values.get("deletions", -1),
    )


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class Witness:
    """What the consumer group knows of the newest committed checkpoint: metadata of its offsets."""

    day: str
    pass_id: int
    digest: str

    def encode(self) -> str:
        return orjson.dumps(asdict(self)).decode()

    @classmethod
    def decode(cls, text: str | None) -> Witness | None:
        """None when there is none, or it is somebody else's."""
        try:
            return cls(**orjson.loads(text or ""))
        except (orjson.JSONDecodeError, TypeError):
            return None

    @property
    def of(self) -> PassId:
        return PassId(self.day, self.pass_id)
