"""The sparse tables of a network, and what each of them counts of a row. For the recount alone.

A worker writes them into job.json where the network has more than one table, or not each row counts in it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from streamtrain.errors import CheckpointError, UnknownFormat, Unreadable
from streamtrain.proof.days import NEVER, ShrinkRule
from streamtrain.proof.line_rules import Row, Rules

_FORMAT = 1
#: In place of the label that counts as click: it is computed from labels.
UNKNOWN = "?"


@dataclass(frozen=True)
class Table:
    """slots: how often each is looked up in it. show: whether each occurrence of a feasign in them counts as one show
    of it. click: the label that counts as its click, '' when none does, UNKNOWN when nobody can tell. directory: below
    the checkpoint. rule: what is done at a day's end."""

    name: str
    slots: Mapping[int, int]
    show: bool = True
    click: str = ""
    directory: str = "embedding.shard"
    rule: ShrinkRule = field(default=NEVER)

    def keys(self, row: Row) -> list[int]:
        """With repetitions."""
        slots = self.slots
        keys = [feasign for feasign, slot in row.pairs if slot in slots]
        if self._several:
            keys += [feasign for feasign, slot in row.pairs for _ in range(slots.get(slot, 0) - 1)]
        return keys

    @cached_property
    def _several(self) -> bool:
        """Whether a slot is looked up more than once."""
        return any(times > 1 for times in self.slots.values())

    def exact_clicks(self, rules: Rules) -> bool:
        """Whether click is known: a sum of whole numbers, since floats are rounded in an order that nobody knows."""
        return not self.click or dict(rules.labels).get(self.click, "float") != "float"

    def unprovable(self, rules: Rules, days: int) -> str:
        """Why the table cannot be proven, '' when it can. days: ends of days so far."""
        if not self.show:
            return f"table {self.name}, whose network has no ShowClickEntry: its show does not count rows"
        if not self.exact_clicks(rules) and days and not self.rule.keeps_all(days):
            return f"table {self.name}, whose keys are deleted by clicks that nobody can count"
        return ""


def tables_of(checkpoint: Path, rules: Rules, shrinks: Mapping[str, ShrinkRule]) -> tuple[Table, ...]:
    """The tables of the checkpoint's network, by name. shrinks: rules by table's name; '' stands for all others.

    Raises CheckpointError when job.json is damaged, UnknownFormat, Unreadable.
    """
    every = shrinks.get("", NEVER)
    uses = network_in(checkpoint / "job.json")
    if uses is None:
        rule = next(iter(shrinks.values()), NEVER)
        return (Table("embedding", Counter(rules.slots), click=rules.labels[0][0], rule=rule),)
    directory = {use["name"]: "embedding.shard" if len(uses) == 1 else f"{use['name']}.shard" for use in uses}
    return tuple(
        Table(
            use["name"], Counter(use["slots"]), bool(use["show"]), use["click"], directory[use["name"]],
            shrinks.get(use["name"], every),
        )
        for use in sorted(uses, key=lambda use: str(use["name"]))
    )  # fmt: skip


def network_in(path: Path) -> Sequence[Mapping[str, Any]] | None:
    """`network.tables` of a job.json; None where it has no such field, or is not there."""
    try:
        if not path.is_file():
            return None
        values = json.loads(path.read_bytes())
        if values.get("format", _FORMAT) != _FORMAT:
            raise UnknownFormat(
                f"{path} is of format {values['format']}, this version knows {_FORMAT}",
                remedy="Recount with the version that wrote it.",
            )
        network = values.get("network")
        if network is None:
            return None
        uses: list[Mapping[str, Any]] = list(network["tables"])
        for use in uses:
            name, click, numbers = use["name"], use["click"], use["slots"]
            plain = isinstance(name, str) and name not in ("", ".", "..") and "/" not in name and "\0" not in name
            if not plain or not isinstance(click, str) or any(type(slot) is not int for slot in numbers):
                raise ValueError(f"a table {use!r}")
            bool(use["show"])
        return uses
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror}", remedy="Make it readable.") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error!r}", remedy="Use an older checkpoint.") from error
