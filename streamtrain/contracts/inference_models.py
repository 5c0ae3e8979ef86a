"""Inference models: their manifest, and which ones are due after a pass. Pure.

The trainer writes them and serving reads them; docs/models.md has the format, field by field. Keys that this version
does not know are ignored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from streamtrain.contracts import json_codec
from streamtrain.contracts.donefiles import DoneLine
from streamtrain.contracts.manifest import FileEntry, Kind, ModelRef
from streamtrain.contracts.metrics import monitor_data, recorded_labels
from streamtrain.contracts.paths import Day, PassNumber
from streamtrain.contracts.served_network import (
    MAX_WIDTH,
    ServedNetwork,
    SlotFeed,
    TableShape,
    TargetVariable,
)
from streamtrain.schedule import PassId, Schedule

FORMAT = 1
#: Files of a model's directory, besides manifest.json and the part files of sparse/.
PROGRAM = "model/__model__"
PARAMS = "dense/__params__"
#: Beside the part files of a table.
DELETED = "deleted.txt"


def directory_name(pass_id: int) -> str:
    return f"inference_model_{pass_id}"


@dataclass(frozen=True)
class DueModel:
    """A model that is to be built. id: its day and pass_id, pass_id 0 for the start of a day."""

    id: PassId
    kind: Kind


def due_models(mode: str, frequency: int, after: PassId, schedule: Schedule, *, has_base: bool) -> list[DueModel]:
    """The models that are due after the pass `after`, in order.

    mode: stream.inference_model; frequency: save_delta_frequency. The first model of all is full: an incremental one
    needs a model to patch.
    """
    if mode == "none":
        return []
    day_end = schedule.is_day_end(after)
    within = frequency > 0 and after.pass_id % frequency == 0
    next_day = DueModel(PassId(schedule.pass_at(schedule.pass_index(after) + 1).day, 0), "full")
    if mode == "full":
        return [next_day] if day_end else [DueModel(after, "full")] if within else []
    due: list[DueModel] = []
    if within or (mode == "incremental" and day_end):
        due.append(DueModel(after, "incremental" if has_base else "full"))
    if mode == "both" and day_end:
        due.append(next_day)
    return due


@dataclass(frozen=True)
class Feed:
    """The variable of the network that is fed with a slot's vectors."""

    slot: Annotated[int, Field(ge=2, le=65535)]
    variable: str


@dataclass(frozen=True)
class TableKeys:
    """What a model has of a table. keys, deleted: lines of part-*.txt, of deleted.txt."""

    keys: int
    deleted: int = 0


@dataclass(frozen=True, kw_only=True)
class CommonManifest:
    """What manifest.json has in both of its formats. The fields without a default are those that serving cannot do
    without."""

    job: str = ""
    day: Day
    pass_id: PassNumber
    kind: Kind
    base: ModelRef | None = None
    previous: ModelRef | None = None
    checkpoint: PassId | None = None
    keys: int
    deleted: int = 0
    variables: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()
    rows: int = 0
    event_time: str | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    program: str = ""
    config_sha256: str = ""
    files: tuple[FileEntry, ...]

    @property
    def path(self) -> str:
        """Below model_save_path."""
        return f"{self.day}/{directory_name(self.pass_id)}"

    def encode(self) -> bytes:
        return json_codec.encode(self)

    def line(self, digest: str, published: float, *, root: str = "", base: float | None = None) -> DoneLine:
        """The model's line in a donefile. published: seconds since 1970; base: the same of the model's base, None for a
        full model. root: model_save_path."""
        return DoneLine(
            path=self.path,
            digest=digest,
            published=published,
            day=self.day,
            pass_id=self.pass_id,
            kind=self.kind,
            base=self.base,
            previous=self.previous,
            checkpoint=self.checkpoint,
            keys=self.keys,
            deleted=self.deleted,
            rows=self.rows,
            event_time=self.event_time,
            id=str(int(published)),
            key=str(int(published if base is None else base)),
            input=f"{root.rstrip('/')}/{self.path}/sparse",
            job_name=self.job,
            monitor_data=monitor_data(recorded_labels(self.metrics.get("labels"))),
        )


@dataclass(frozen=True, kw_only=True)
class ModelManifest(CommonManifest):
    """Of a network whose feeds are numbered slots, each looked up once in one table, and that predicts one number."""

    width: Annotated[int, Field(ge=1, le=MAX_WIDTH)]
    feeds: Annotated[tuple[Feed, ...], Field(min_length=1)]
    target: str
    thresholds: dict[str, float] | None = None
    format: int = FORMAT

    @classmethod
    def decode(cls, data: bytes) -> ModelManifest:
        """Raises UnknownFormatError when it is of another format, ValueError when it is damaged."""
        return json_codec.decode(_MANIFEST, data, WHAT, format=FORMAT)

    @property
    def network(self) -> ServedNetwork:
        """Raises ValueError for feeds that do not belong together."""
        slots = tuple(SlotFeed(str(feed.slot), feed.slot, "sparse", feed.variable) for feed in self.feeds)
        return ServedNetwork(slots, {"sparse": TableShape(self.width)}, (TargetVariable(self.target, self.target),))

    @property
    def directories(self) -> dict[str, TableKeys]:
        """The tables by the directory of their files."""
        return {"sparse": TableKeys(self.keys, self.deleted)}


#: What a manifest is, in messages.
WHAT = "an inference model's manifest"
_MANIFEST = TypeAdapter(ModelManifest)
