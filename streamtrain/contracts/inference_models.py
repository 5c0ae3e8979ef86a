"""Inference models: their manifest, the donefiles that name them, what is due after a pass. Pure.

docs/models.md has the format, field by field.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson

from streamtrain.contracts.manifest import FileEntry, ModelRef
from streamtrain.schedule import PassId, Schedule

Kind = Literal["full", "incremental"]

FORMAT = 1
#: Name of the donefile that lists the models of a kind.
DONEFILES: dict[Kind, str] = {"full": "base_donefile.txt", "incremental": "patch_donefile.txt"}


def directory_name(pass_id: int) -> str:
    return f"inference_model_{pass_id}"


def is_directory(path: str) -> bool:
    """Whether a path below model_save_path is an inference model's."""
    return re.fullmatch(r"\d{8}/inference_model_\d+", path) is not None


@dataclass(frozen=True)
class DueModel:
    """A model that is to be made. of: its day and pass_id, pass_id 0 for the start of a day."""

    of: PassId
    kind: Kind


def due_models(mode: str, frequency: int, of: PassId, schedule: Schedule, *, has_base: bool) -> list[DueModel]:
    """What is due after pass `of`, in order. mode: stream.inference_model; frequency: save_delta_frequency.

    The first model of all is full: an incremental one needs something to patch.
    """
    if mode == "none":
        return []
    day_end = schedule.is_day_end(of)
    within = frequency > 0 and of.pass_id % frequency == 0
    next_day = DueModel(PassId(schedule.pass_at(schedule.pass_index(of) + 1).day, 0), "full")
    if mode == "full":
        return [next_day] if day_end else [DueModel(of, "full")] if within else []
    due: list[DueModel] = []
    if within or (mode == "incremental" and day_end):
        due.append(DueModel(of, "incremental" if has_base else "full"))
    if mode == "both" and day_end:
        due.append(next_day)
    return due


@dataclass(frozen=True)
class ModelManifest:
    """manifest.json of an inference model."""

    job: str
    day: str
    pass_id: int
    kind: Kind
    base: ModelRef | None
    previous: ModelRef | None
    checkpoint: dict[str, Any] | None
    keys: int
    deleted: int
    width: int
    feeds: tuple[dict[str, Any], ...]
    target: str
    variables: tuple[str, ...]
    dense: tuple[str, ...]
    thresholds: dict[str, float] | None
    rows: int
    event_time: str
    metrics: dict[str, Any]
    created: str
    program: str
    config_sha256: str
    files: tuple[FileEntry, ...] = ()
    format: int = FORMAT

    @property
    def of(self) -> PassId:
        return PassId(self.day, self.pass_id)

    @property
    def path(self) -> str:
        """Below model_save_path."""
        return f"{self.day}/{directory_name(self.pass_id)}"

    def encode(self) -> bytes:
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> ModelManifest:
        """Raises ValueError when it is damaged or of a newer format."""
        try:
            values = orjson.loads(data)
            if values.get("format") != FORMAT:
                raise ValueError(f"its format is {values.get('format')}, this version reads {FORMAT}")
            values["files"] = tuple(FileEntry(**f) for f in values["files"])
            for name in ("base", "previous"):
                values[name] = ModelRef(**values[name]) if values[name] else None
            for name in ("feeds", "variables", "dense"):
                values[name] = tuple(values[name])
            return cls(**values)
        except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"it is no manifest: {error}") from error

    def line(self, digest: str, published: float) -> DoneLine:
        """Its line in a donefile. published: seconds since 1970."""
        values = asdict(self)
        copied = ("day", "pass_id", "kind", "base", "previous", "checkpoint", "keys", "deleted", "rows", "event_time")
        return DoneLine({"path": self.path, "digest": digest, "published": published, **{k: values[k] for k in copied}})


@dataclass(frozen=True)
class DoneLine:
    """A line of base_donefile.txt or patch_donefile.txt; values as docs/models.md lists them."""

    values: dict[str, Any]

    @property
    def kind(self) -> Kind:
        kind: Kind = self.values["kind"]
        return kind

    @property
    def path(self) -> str:
        return str(self.values["path"])

    @property
    def digest(self) -> str:
        return str(self.values["digest"])

    @property
    def published(self) -> float:
        """Seconds since 1970."""
        return float(self.values.get("published", 0))

    @property
    def checkpoint(self) -> PassId | None:
        found = self.values.get("checkpoint")
        return PassId(found["day"], found["pass_id"]) if found else None

    def encode(self) -> bytes:
        return orjson.dumps(self.values) + b"\n"

    @classmethod
    def read(cls, data: bytes) -> list[DoneLine]:
        """All lines of a donefile. Raises ValueError for one that is none."""
        try:
            found = [cls(orjson.loads(line)) for line in data.splitlines() if line.strip()]
            for line in found:
                if not {"kind", "path", "digest"} <= set(line.values):
                    raise ValueError(f"it has a line without kind, path or digest: {line.values}")
            return found
        except (orjson.JSONDecodeError, TypeError) as error:
            raise ValueError(f"it has a line that is no JSON object: {error}") from error


def kept_lines(lines: Sequence[DoneLine], newest: PassId | None) -> list[DoneLine]:
    """Those of a history up to checkpoint `newest`: what a restart from it leaves standing. None: of an empty one."""
    if newest is None:
        return []
    return [line for line in lines if line.checkpoint is None or line.checkpoint <= newest]
