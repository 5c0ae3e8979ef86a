"""A network's feeds, recognised by what they are, and compared with what the job's rows have. Pure.

| feed | recognised by | in a row |
|---|---|---|
| show | its name; it may be absent | 1 |
| labels | StaticModel.labels, else the names of stream.labels, and what AUCs read | a number |
| slots | int64, looked up by sparse_embedding | feasigns |
| weight | StaticModel.weight, else stream.weight | a float |
| dense | all other float32 | as many floats as it is wide |
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamtrain.contracts.feature_text import MAX_SLOT
from streamtrain.contracts.network import NetworkFeed
from streamtrain.contracts.row_layout import Label, RowLayout
from streamtrain.errors import ConfigError

_SHOW = "show"


@dataclass(frozen=True)
class FeedVariable:
    """What paddle.static.data() was given. dtype: int64, float32, ..; shape: without that of the rows. looked_up:
    whether sparse_embedding reads it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    lod_level: int
    looked_up: bool

    @property
    def width(self) -> int:
        return math.prod(self.shape)

    @property
    def integer(self) -> bool:
        return self.dtype == "int64"

    def __str__(self) -> str:
        shape = ", ".join(["None", *map(str, self.shape)])
        return f"feed {self.name} ({self.dtype}, [{shape}], lod_level {self.lod_level})"


@dataclass(frozen=True)
class Said:
    """What the model's code says of its feeds. labels: StaticModel.labels. weight: StaticModel.weight, '' without it.
    of_auc: the feeds that paddle.static.auc reads as labels, in their order."""

    labels: tuple[str, ...] | None = None
    weight: str = ""
    of_auc: tuple[str, ...] = ()


@dataclass
class _Missing:
    """What the config lacks for the feeds, by key. found: labels of the config that a feed is."""

    slots: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    dense: dict[str, int] = field(default_factory=dict)
    found: set[str] = field(default_factory=set)

    def lines(self, layout: RowLayout) -> str:
        """The YAML that would be right, below `stream:`."""
        lines = []
        if self.slots:
            taken = {*layout.names.values(), *layout.slots}
            free = iter(number for number in range(2, MAX_SLOT + 1) if number not in taken)
            lines.append(_yaml("features", {**layout.names, **{name: next(free) for name in self.slots}}))
        if self.labels:
            lines.append(_yaml("labels", {**_kept(layout.labels, self.found), **self.labels}))
        if self.dense:
            lines.append(_yaml("dense", {**{dense.name: dense.width for dense in layout.dense}, **self.dense}))
        return "; ".join(lines)


def _kept(labels: Sequence[Label], found: Collection[str]) -> dict[str, str]:
    """The config's labels; the default alone makes room for others, unless a feed is it."""
    return {} if [label.name for label in labels] == ["click"] and "click" not in found else {
        label.name: label.kind for label in labels
    }  # fmt: skip


def _yaml(key: str, values: Mapping[str, object]) -> str:
    return f"{key}: {{{', '.join(f'{name}: {value}' for name, value in values.items())}}}"


def recognise(
    file: Path, variables: Sequence[FeedVariable], layout: RowLayout | None, said: Said
) -> tuple[NetworkFeed, ...]:
    """The feeds in their order. layout: what the job's rows have; None: whatever a network of numbered slots and one
    label reads.

    Raises ConfigError naming the file, each feed that does not fit, and what to write.
    """
    names = [variable.name for variable in variables]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"{file}: create_feeds() gives feed {twice} twice")
    _refuse_no_feed(file, "weight", [said.weight] if said.weight else [], names)
    labels = _labels(file, names, layout, said)
    problems: list[str] = []
    missing = _Missing()
    feeds: list[NetworkFeed] = []
    for variable in variables:
        if variable.name in labels:
            feeds.append(_label(variable, labels, layout, missing, problems))
        elif variable.name == _SHOW:
            feeds.append(NetworkFeed(_SHOW, "show", integer=variable.integer))
            _check_single(variable, problems)
        elif variable.name == (said.weight or (layout.weight if layout is not None else "")):
            feeds.append(NetworkFeed(variable.name, "weight"))
            _check_single(variable, problems, ("float32",))
        elif variable.dtype == "float32":
            feeds.append(_dense(variable, layout, missing, problems))
        elif variable.integer:
            feeds.append(_slot(variable, layout, missing, problems))
        else:
            problems.append(f"{variable}: int64 or float32 is wanted")
    numbers = [feed.slot for feed in feeds if feed.kind == "slot" and feed.slot]
    if twice_slot := next((number for number in numbers if numbers.count(number) > 1), None):
        problems.append(f"two feeds are slot {twice_slot}")
    if problems:
        lines = missing.lines(layout) if layout is not None else ""
        raise ConfigError(
            f"{file}: {'; '.join(problems)}",
            remedy=f"Write below `stream:` in the config: {lines}" if lines else "Correct it in create_feeds().",
        )
    if not numbers:
        raise ConfigError(
            f"{file}: create_feeds() gives no slot: an int64 feed that sparse_embedding reads",
            remedy="A network of floats alone is not trained: it has no table that a recount could prove the rows by. "
            "Give it a slot.",
        )
    return tuple(feeds)


def _refuse_no_feed(file: Path, attribute: str, said: Sequence[str], names: Sequence[str]) -> None:
    if lost := next((name for name in said if name not in names), None):
        raise ConfigError(
            f"{file}: StaticModel.{attribute} names {lost}, which is no feed", remedy=f"Feeds: {', '.join(names)}."
        )


def _labels(file: Path, names: Sequence[str], layout: RowLayout | None, said: Said) -> tuple[str, ...]:
    """The names of the label feeds."""
    if said.labels is not None:
        _refuse_no_feed(file, "labels", said.labels, names)
        if twice := next((name for name in said.labels if said.labels.count(name) > 1), None):
            raise ConfigError(f"{file}: StaticModel.labels names {twice} twice", remedy="Name each label once.")
        return said.labels
    of_job = [label.name for label in layout.labels] if layout is not None else ["click"]
    found = tuple(name for name in of_job if name in names)
    if not found or layout is not None:  # that of an AUC is a label, also where the job's rows lack it
        others = {_SHOW, *(dense.name for dense in layout.dense)} if layout is not None else {_SHOW}
        found = tuple(dict.fromkeys((*found, *(name for name in said.of_auc if name not in others))))
    if not found:
        raise ConfigError(
            f"{file}: create_feeds() gives no label",
            remedy=f"Name one of its feeds {of_job[0]}, as stream.labels does, or list them in StaticModel.labels.",
        )
    return found


def _label(
    variable: FeedVariable, labels: Sequence[str], layout: RowLayout | None, missing: _Missing, problems: list[str]
) -> NetworkFeed:
    _check_single(variable, problems, ("int64", "float32"))
    if layout is not None and not (len(labels) == 1 == len(layout.labels)):
        label = next((label for label in layout.labels if label.name == variable.name), None)
        if label is None:
            kind = "binary" if variable.integer else "float"
            missing.labels[variable.name] = kind
            problems.append(f"label {variable.name} is not in stream.labels")
        else:
            missing.found.add(label.name)
    elif layout is not None:
        label = layout.labels[0]
    else:
        label = None
    if label is not None and label.kind == "float" and variable.integer:
        problems.append(f"{variable}: stream.labels says {label.name}: float, which needs float32")
    return NetworkFeed(variable.name, "label", integer=variable.integer)


def _check_single(variable: FeedVariable, problems: list[str], dtypes: Sequence[str] = ("int64", "float32")) -> None:
    """One value a row."""
    if variable.dtype not in dtypes or variable.width != 1 or variable.lod_level > 1:
        problems.append(f"{variable}: {' or '.join(dtypes)} of [None, 1] is wanted")


def _dense(variable: FeedVariable, layout: RowLayout | None, missing: _Missing, problems: list[str]) -> NetworkFeed:
    if variable.lod_level or variable.width < 1:
        problems.append(f"{variable}: a feed of floats has lod_level 0 and a fixed width")
    elif layout is None:
        problems.append(f"{variable}: the job's rows have no floats")
    else:
        given = next((dense.width for dense in layout.dense if dense.name == variable.name), None)
        if given != variable.width:
            missing.dense[variable.name] = variable.width
            problems.append(
                f"{variable} is not in stream.dense" if given is None
                else f"{variable}: stream.dense says {given} floats, the network reads {variable.width}"
            )  # fmt: skip
    return NetworkFeed(variable.name, "dense", width=variable.width)


def _slot(variable: FeedVariable, layout: RowLayout | None, missing: _Missing, problems: list[str]) -> NetworkFeed:
    name = variable.name
    number = layout.names.get(name) if layout is not None else None
    if number is None and name.isascii() and name.isdigit() and len(name) <= 5:
        number = int(name)
    if not variable.looked_up:
        problems.append(f"{variable} is no label, and no sparse_embedding reads it")
    elif variable.lod_level > 1 or variable.width < 1 or (variable.lod_level == 1 and variable.width != 1):
        problems.append(f"{variable}: a slot is [None, 1] with lod_level 1, or has lod_level 0 and a fixed width")
    elif number is None and layout is None:
        problems.append(f"feed {name!r} is not a slot: a slot's name is its number")
    elif number is None:
        missing.slots.append(name)
        problems.append(f"slot {name} is not in stream.features")
    return NetworkFeed(
        name, "slot", slot=number or 0, width=variable.width, integer=True, sequence=variable.lod_level == 1
    )
