"""Inference models: their manifest, the donefiles that list them, which ones are due after a pass. Pure.

The trainer writes them and serving reads them; docs/models.md has the format, field by field. Keys that this version
does not know are ignored in a manifest, and kept in a donefile when its lines are written again.
"""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from streamtrain.contracts import json_codec
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import FileEntry, ModelRef
from streamtrain.contracts.metrics import monitor_data, recorded_labels
from streamtrain.contracts.paths import Day, PassNumber, quoted
from streamtrain.contracts.served_network import (
    MAX_WIDTH,
    ServedNetwork,
    SlotFeed,
    TableShape,
    TargetVariable,
)
from streamtrain.schedule import PassId, Schedule

Kind = Literal["full", "incremental"]

FORMAT = 1
#: Name of the donefile that lists the models of a kind.
DONEFILES: dict[Kind, str] = {"full": "base_donefile.txt", "incremental": "patch_donefile.txt"}
#: Keys of a donefile's line that PaddleRec's readers look for.
PADDLEREC = ("id", "key", "input", "job_name", "monitor_data")
#: Files of a model's directory, besides manifest.json and the part files of sparse/.
PROGRAM = "model/__model__"
PARAMS = "dense/__params__"
#: Beside the part files of a table.
DELETED = "deleted.txt"


def directory_name(pass_id: int) -> str:
    return f"inference_model_{pass_id}"


def is_directory(path: str) -> bool:
    """Whether a path below model_save_path is an inference model's."""
    return re.fullmatch(r"[0-9]{8}/inference_model_[0-9]+", path) is not None


def _check_directory(path: str) -> str:
    if not is_directory(path):
        raise ValueError(f"{quoted(path)} is not the directory of an inference model, day/inference_model_N")
    return path


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


@dataclass(frozen=True, kw_only=True)
class DoneLine:
    """A line of base_donefile.txt or patch_donefile.txt, in the order of its keys.

    path: relative to the donefile. published: seconds since 1970. id, key, input, job_name, monitor_data: what readers
    of PaddleRec's donefiles look for, see docs/models.md; None in lines before 0.4.0. text: the line as it was read,
    with the keys that this version does not know; empty for a new line.
    """

    path: Annotated[str, AfterValidator(_check_directory)]
    digest: str
    published: float = 0.0
    day: Day
    pass_id: PassNumber
    kind: Kind
    base: ModelRef | None = None
    previous: ModelRef | None = None
    checkpoint: PassId | None = None
    keys: int | None = None
    deleted: int | None = None
    rows: int | None = None
    event_time: str | None = None
    id: Any = field(default=None, compare=False)  # they follow from the others
    key: Any = field(default=None, compare=False)
    input: Any = field(default=None, compare=False)
    job_name: Any = field(default=None, compare=False)
    monitor_data: Any = field(default=None, compare=False)
    text: bytes = field(default=b"", repr=False, compare=False)

    @property
    def ref(self) -> ModelRef:
        return ModelRef(self.day, self.pass_id, self.digest)

    @property
    def values(self) -> dict[str, Any]:
        """The line's JSON object."""
        if self.text:
            return json_codec.decode_object(self.text, "a donefile's line")
        values = asdict(self)
        del values["text"]
        return {key: value for key, value in values.items() if value is not None or key not in PADDLEREC}

    def encode(self) -> bytes:
        """With a line end. A line that was read comes back byte for byte."""
        return (self.text or orjson.dumps(self.values)) + b"\n"

    def moved(self, root: str, url: str) -> DoneLine:
        """The line in the donefile of a copy: `input` is below `url` where it was below `root`."""
        if not isinstance(self.input, str) or not self.input.startswith(f"{root}/"):
            return self
        there = f"{url.rstrip('/')}{self.input.removeprefix(root)}"
        return replace(self, input=there, text=orjson.dumps({**self.values, "input": there}))

    @classmethod
    def decode(cls, text: bytes) -> DoneLine:
        """text: without its line end. Its format is 1 where it has no key `format`, as this version writes it.

        Raises UnknownFormatError for a newer one, ValueError saying which key is missing or wrong.
        """
        values = json_codec.decode_object(text, "a donefile's line")
        json_codec.check_format(values.get("format", FORMAT), FORMAT)
        try:
            return _LINE.validate_python({**values, "text": text})
        except ValidationError as error:
            raise ValueError(json_codec.first_problem(error)) from error


_LINE = TypeAdapter(DoneLine)


@dataclass(frozen=True)
class BadLine:
    """A line of a donefile that cannot be used: its number, from 1, and why; unknown: it is of a newer format."""

    number: int
    reason: str
    unknown: bool = False


def decode_donefile(data: bytes) -> tuple[list[DoneLine], list[BadLine]]:
    """The lines of a donefile in their order, and those that are not valid."""
    lines: list[DoneLine] = []
    bad: list[BadLine] = []
    with _without_collector():
        for number, text in enumerate(data.splitlines(), 1):
            if not text.strip():
                continue
            try:
                lines.append(DoneLine.decode(text))
            except ValueError as error:
                bad.append(BadLine(number, str(error), isinstance(error, UnknownFormatError)))
    return lines, bad


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """The garbage collector would look at all lines again and again while they come: a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def decode_valid_donefile(data: bytes) -> list[DoneLine]:
    """The lines of a donefile that is to be written again. Raises ValueError when one of them is not valid,
    UnknownFormatError when one is of a newer format."""
    lines, bad = decode_donefile(data)
    if unknown := [line for line in bad if line.unknown]:
        raise UnknownFormatError(f"line {unknown[0].number}: {unknown[0].reason}")
    if bad:
        raise ValueError(f"line {bad[0].number}: {bad[0].reason}")
    return lines


def encode_donefile(lines: Sequence[DoneLine], kind: Kind) -> bytes:
    """The donefile of that kind; lines of the other kind are left out."""
    return b"".join(line.encode() for line in lines if line.kind == kind)


def kept_lines(lines: Sequence[DoneLine], newest: PassId | None) -> list[DoneLine]:
    """The lines that a restart from checkpoint `newest` keeps: those of later checkpoints are dropped.

    None: the restart is from nothing, and keeps no line.
    """
    if newest is None:
        return []
    return [line for line in lines if line.checkpoint is None or line.checkpoint <= newest]
