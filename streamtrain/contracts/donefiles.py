"""Donefiles of inference models: a JSON line for each model, in the order of publication. Pure.

The trainer writes them, serving and readers of PaddleRec's read them; docs/models.md has the format, field by field.
Keys that this version does not know are kept when the lines are written again.
"""

from __future__ import annotations

import contextlib
import gc
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, TypeAdapter, ValidationError

from streamtrain.contracts import json_codec
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.manifest import Kind, ModelRef
from streamtrain.contracts.paths import Day, PassNumber, quoted
from streamtrain.schedule import PassId

#: Of a line that has no key `format`, as this version writes it.
FORMAT = 1
#: Name of the donefile that lists the models of a kind.
DONEFILES: dict[Kind, str] = {"full": "base_donefile.txt", "incremental": "patch_donefile.txt"}
#: Keys of a donefile's line that PaddleRec's readers look for.
PADDLEREC = ("id", "key", "input", "job_name", "monitor_data")


def is_directory(path: str) -> bool:
    """Whether a path below model_save_path is an inference model's."""
    return re.fullmatch(r"[0-9]{8}/inference_model_[0-9]+", path) is not None


def _check_directory(path: str) -> str:
    if not is_directory(path):
        raise ValueError(f"{quoted(path)} is not the directory of an inference model, day/inference_model_N")
    return path


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
        """text: without its line end. Its format is 1 where it has no key `format`.

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
