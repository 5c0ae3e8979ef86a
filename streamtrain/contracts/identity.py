"""job.json of a checkpoint: what the job is, as its checkpoint was made. Pure.

A checkpoint means something to one job alone: its pass ids count passes of that schedule, its columns are those of that
optimizer's rule. So the identity is written into each checkpoint, and a config that says otherwise is refused by the
key that differs. docs/config.md says of each key whether it is fixed; docs/formats.md has the document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter

from streamtrain.contracts import json_codec
from streamtrain.contracts.network import Network, TableUse
from streamtrain.contracts.warmup import WarmStart

FORMAT = 1
NAME = "job.json"
#: Changes that are kept: the newest ones.
MAX_CHANGES = 1000
_ABSENT = "not set"


@dataclass(frozen=True)
class Change:
    """A key that may change in a job, and did: at the start at `time` (ISO 8601, UTC), after pass `after`
    (day/pass_id)."""

    time: str
    after: str
    key: str
    old: Any
    new: Any


@dataclass(frozen=True)
class Difference:
    """A key, its value in the checkpoint and in the config."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.old} in the checkpoint, {self.new} now"


@dataclass(frozen=True, kw_only=True)
class JobIdentity:
    """fixed: what may not change in a job, by dotted key of the config. config: all other keys, as understood, with
    defaults and without secrets. dense: shape of each dense parameter, by name. changes: of keys that may change, the
    oldest first. network: its feeds and tables; None, and left out of the document, for PaddleRec's usual form: show,
    click and numbered slots, all of them in the one table that `fixed` names, where each row counts. warmup: what the
    job has begun from; None, and left out, for nothing."""

    fixed: dict[str, Any]
    config: dict[str, Any]
    dense: dict[str, tuple[int, ...]] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    network: Network | None = None
    warmup: WarmStart | None = None
    format: int = FORMAT

    def encode(self) -> bytes:
        without = [name for name in ("network", "warmup") if getattr(self, name) is None]
        return json_codec.encode(self, without=without)

    @property
    def tables(self) -> tuple[TableUse, ...]:
        """Of the network, in the order of Paddle's ids."""
        if self.network is not None:
            return self.network.tables
        slots = tuple(sorted(self.fixed.get("stream.slots") or ()))
        return (TableUse(str(self.fixed.get("table_parameters", "embedding")), slots, show=True, click="click"),)

    @classmethod
    def decode(cls, data: bytes) -> JobIdentity:
        """Raises UnknownFormatError when it is of another format, ValueError when it is damaged."""
        return json_codec.decode(_IDENTITY, data, "a job's identity", format=FORMAT)


_IDENTITY = TypeAdapter(JobIdentity)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    """The keys whose values differ, in their order."""
    for key in sorted({*old, *new}):
        before, now = old.get(key, _ABSENT), new.get(key, _ABSENT)
        if _plain(before) != _plain(now):
            yield Difference(key, before, now)


def dense_differences(old: Mapping[str, tuple[int, ...]], new: Mapping[str, tuple[int, ...]]) -> Iterator[Difference]:
    """The dense parameters whose shapes differ; none when either side is not known."""
    if old and new:
        yield from differences({k: list(v) for k, v in old.items()}, {k: list(v) for k, v in new.items()})


def table_differences(old: Sequence[TableUse], new: Sequence[TableUse]) -> Iterator[Difference]:
    """The tables that count other things: the show and click that they have would mean nothing any more."""
    before, now = ({table.name: str(table) for table in tables} for tables in (old, new))
    for difference in differences(before, now):
        yield Difference(f"table {difference.key}", difference.old, difference.new)


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, by dotted keys; the leaves only."""
    if not isinstance(value, Mapping) or not value:
        return {prefix: value} if prefix else {}
    leaves: dict[str, Any] = {}
    for key, inner in value.items():
        leaves.update(flat(inner, f"{prefix}.{key}" if prefix else str(key)))
    return leaves


def _plain(value: Any) -> Any:
    """As it comes back from JSON."""
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
