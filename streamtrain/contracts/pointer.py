"""The object that makes a checkpoint on a store: which of the uploaded attempts at a pass is one, and what it
continues. Pure.

    checkpoints/{day}/{pass_id}/{attempt}/..   the files of an attempt, manifest.json among them, models/ below
    commits/{day}/{pass_id}-{attempt}.json     its pointer, put once all of them are there: the commit point
    runs/{number}-{token}                      a run of a trainer
    rewinds/{run}-{day}-{pass_id}              that run has gone back to that pass, or to nothing: 00000000-0; or it has
                                               found no checkpoint, and begun from nothing
    exchange/{token}/{number}/..               files on their way between machines: runtime/exchange.py

An attempt's name has its run's number and the manifest's digest, so no two trainers ever write one object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter

from streamtrain.contracts import json_codec
from streamtrain.contracts.paths import Day, PassNumber
from streamtrain.schedule import PassId

FORMAT = 1
CHECKPOINTS = "checkpoints"
COMMITS = "commits"
RUNS = "runs"
REWINDS = "rewinds"
EXCHANGE = "exchange"
_REWIND = re.compile(r"([0-9]{1,18})-([0-9]{8})-([0-9]{1,18})")
_NAME = re.compile(r"([1-9][0-9]{0,17})-([0-9]{1,18})-([0-9a-f]{16})\.json")
_SHA256 = r"^[0-9a-f]{64}$"


@dataclass(frozen=True)
class PointerName:
    """What a pointer's name alone says. run: the number of the trainer's run. short: the digest's first 16 digits."""

    id: PassId
    run: int
    short: str

    @classmethod
    def parse(cls, day: str, name: str) -> PointerName | None:
        """Of commits/{day}/{name}; None for an object that is no pointer."""
        match = _NAME.fullmatch(name)
        return cls(PassId(day, int(match[1])), int(match[2]), match[3]) if match else None

    @property
    def attempt(self) -> str:
        return f"{self.run}-{self.short}"

    @property
    def path(self) -> str:
        """Of the pointer, below the store's root."""
        return f"{COMMITS}/{self.id.day}/{self.id.pass_id}-{self.attempt}.json"

    @property
    def directory(self) -> str:
        """Of the attempt's files."""
        return f"{CHECKPOINTS}/{self.id.day}/{self.id.pass_id}/{self.attempt}"


@dataclass(frozen=True)
class Rewound:
    """Run `run` has gone back to the pass `to`, or has begun from nothing: what older runs put for later passes comes
    too late."""

    run: int
    to: PassId

    @property
    def path(self) -> str:
        return f"{REWINDS}/{self.run}-{self.to.day}-{self.to.pass_id}"

    @classmethod
    def parse(cls, name: str) -> Rewound | None:
        """Of rewinds/{name}."""
        match = _REWIND.fullmatch(name)
        return cls(int(match[1]), PassId(match[2], int(match[3]))) if match else None

    def ends(self, name: PointerName) -> bool:
        return name.run < self.run and name.id > self.to


#: What a rewind to nothing goes back to, and a job begins at: before every pass.
NOTHING = PassId("00000000", 0)


@dataclass(frozen=True)
class Pointer:
    """digest: SHA-256 of the attempt's manifest.json. parent: that of the checkpoint that it was trained from; '' for
    the first one. A newer version may have more keys: they are ignored."""

    day: Day
    pass_id: PassNumber
    run: Annotated[int, Field(ge=0)]
    digest: Annotated[str, Field(pattern=_SHA256)]
    parent: Annotated[str, Field(pattern=rf"{_SHA256}|^$")]
    format: int = FORMAT

    @property
    def name(self) -> PointerName:
        return PointerName(PassId(self.day, self.pass_id), self.run, self.digest[:16])

    @property
    def id(self) -> PassId:
        return PassId(self.day, self.pass_id)

    def encode(self) -> bytes:
        return json_codec.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Pointer:
        """Raises UnknownFormatError, ValueError."""
        return json_codec.decode(_POINTER, data, "a pointer", format=FORMAT)


_POINTER = TypeAdapter(Pointer)
