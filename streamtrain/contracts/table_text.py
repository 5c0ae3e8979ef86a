"""The text of the sparse table: Paddle's, in a checkpoint, and the shorter one of inference models. Pure.

    key slot unseen_days delta_score show click embed_w state.. [embedx.. state..]     Paddle's, a line a key
    key [show click] embed_w embedx..                                                  an inference model's

Columns are separated by one blank. state: the numbers that the optimizer keeps, by its rule: one for AdaGrad. A key
below embedx_threshold has no embedx in Paddle's text, and zeros in an inference model's. show and click are in an
inference model's where a lookup gives them to the network, by CtrCommonAccessor. A part file `part-*.txt` has a
`part-*.meta` beside it, JSON, that names its columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any

import orjson
from pydantic import TypeAdapter

from streamtrain.contracts import json_codec
from streamtrain.contracts.paths import plain_path, quoted

#: Directory of a checkpoint's part files, when there is one table.
SHARD = "embedding.shard"
#: Paddle's columns of every key, before the optimizer's state.
COLUMNS = ("key", "slot", "unseen_days", "delta_score", "show", "click", "embed_w")
KEY, UNSEEN_DAYS, SHOW, CLICK, EMBED_W = (
    COLUMNS.index(name) for name in ("key", "unseen_days", "show", "click", "embed_w")
)
SEPARATOR = " "
#: What a table has where table_parameters do not say it: what Paddle 3.0.0 takes in a static graph on CPUs
#: (the_one_ps.py), which is not what its messages have as defaults. shard_num alone is ours, and given to Paddle: it
#: would take 1000.
DEFAULT_RULE, DEFAULT_DIM, DEFAULT_SHARDS, DEFAULT_ACCESSOR = "SparseAdamSGDRule", 8, 10, "SparseAccessor"
DEFAULT_EMBEDX_THRESHOLD = 0
#: The same of accessor.ctr_accessor_param.
CTR_DEFAULTS = {
    "nonclk_coeff": 0.1, "click_coeff": 1.0, "base_threshold": 0.0, "delta_threshold": 0.0, "delta_keep_days": 16.0,
    "show_click_decay_rate": 1.0, "delete_threshold": 0.0, "delete_after_unseen_days": 30.0,
}  # fmt: skip
CVM_ACCESSOR = "CtrCommonAccessor"
#: Accessors of tables that are trained, and the columns that an embedding has ahead of embedx.
PULLED = {DEFAULT_ACCESSOR: ("embed_w",), CVM_ACCESSOR: ("show", "click", "embed_w")}
#: How many these are.
ACCESSORS = {accessor: len(columns) for accessor, columns in PULLED.items()}
#: Numbers of state that a rule keeps for `dim` weights (Dim() in Paddle's sparse_sgd_rule.h).
RULES: dict[str, Callable[[int], int]] = {
    "SparseNaiveSGDRule": lambda _dim: 0,
    "SparseAdaGradSGDRule": lambda _dim: 1,
    "SparseAdaGradV2SGDRule": lambda _dim: 1,
    "StdAdaGradSGDRule": lambda dim: dim,
    "SparseAdamSGDRule": lambda dim: 2 * dim + 2,
    "SparseSharedAdamSGDRule": lambda _dim: 4,
}


def shard_directory(table: str, tables: int) -> str:
    """The directory of a table's part files in a checkpoint. tables: how many the network has. Raises ValueError for a
    name that is not one of a directory."""
    if tables == 1:
        return SHARD
    path = plain_path(f"{table}.shard")
    if len(path.parts) != 1:
        raise ValueError(f"{quoted(table)} is not the name of a table: it has a '/'")
    return str(path)


def rule_of(accessor: Mapping[str, Any], key: str) -> str:
    """The optimizer's rule below embed_sgd_param or embedx_sgd_param, with Paddle's default."""
    return str((accessor.get(key) or {}).get("name", DEFAULT_RULE))


def state_columns(weight: str, rule: str, dim: int) -> tuple[str, ...]:
    """The columns that a rule adds after its weights. weight: embed or embedx; rule: one of RULES."""
    if rule == "SparseAdaGradSGDRule":
        return (f"{weight}_g2sum",)
    return tuple(f"{weight}_state_{i}" for i in range(RULES[rule](dim)))


@dataclass(frozen=True)
class TableColumns:
    """The columns of a table in Paddle's text. embed_state, embedx_state: names of the optimizer's numbers, which come
    after the weights."""

    embedx_dim: int
    embed_state: tuple[str, ...] = ("embed_g2sum",)
    embedx_state: tuple[str, ...] = ("embedx_g2sum",)

    @classmethod
    def of_accessor(cls, accessor: Mapping[str, Any]) -> TableColumns:
        """Of a table with this accessor, as table_parameters has it. Raises ValueError for an optimizer's rule that
        Paddle lacks."""
        dim = int(accessor.get("embedx_dim", DEFAULT_DIM))
        states = []
        for key, width in (("embed_sgd_param", 1), ("embedx_sgd_param", dim)):
            rule = rule_of(accessor, key)
            if rule not in RULES:
                raise ValueError(f"accessor.{key}.name is {rule}, which Paddle lacks; it has {', '.join(RULES)}")
            states.append(state_columns(key.partition("_")[0], rule, width))
        return cls(dim, *states)

    @property
    def names(self) -> tuple[str, ...]:
        return (*COLUMNS, *self.embed_state, *_embedx(self.embedx_dim), *self.embedx_state)

    @property
    def embedx_begin(self) -> int:
        """Where embedx begins in Paddle's text; how many columns a key without embedx has."""
        return EMBED_W + 1 + len(self.embed_state)

    @property
    def embedx_end(self) -> int:
        return self.embedx_begin + self.embedx_dim

    @property
    def count(self) -> int:
        """Columns of a key with embedx."""
        return self.embedx_end + len(self.embedx_state)


def inference_columns(embedx_dim: int, pulls: Sequence[str] = PULLED[DEFAULT_ACCESSOR]) -> tuple[str, ...]:
    """The columns of an inference model's text. pulls: those of an embedding ahead of embedx."""
    return ("key", *pulls, *_embedx(embedx_dim))


def _embedx(dim: int) -> tuple[str, ...]:
    return tuple(f"embedx_{i}" for i in range(dim))


@dataclass(frozen=True)
class Column:
    name: str
    type: str = "float32"


@dataclass(frozen=True, kw_only=True)
class PartMeta:
    """The .meta beside a part file, in the order of its keys. None: the file lacks the key.

    keys: lines of the part file. embedx_optional, shard_num, accessor: of a checkpoint's alone.
    """

    columns: tuple[Column, ...]
    separator: str
    embedx_dim: int | None = None
    embedx_optional: str | None = None
    shard_num: int | None = None
    accessor: str | None = None
    keys: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    def encode(self) -> bytes:
        values = {key: value for key, value in asdict(self).items() if value is not None}
        return orjson.dumps(values, option=orjson.OPT_INDENT_2) + b"\n"

    @classmethod
    def decode(cls, data: bytes) -> PartMeta:
        """Raises ValueError saying which key is missing or wrong."""
        return json_codec.decode(_META, data, "a part file's .meta")


_META = TypeAdapter(PartMeta)


def checkpoint_meta(columns: TableColumns, keys: int, shard_num: int, accessor: str) -> PartMeta:
    """The .meta of a checkpoint's part file."""
    return PartMeta(
        columns=_columns(columns.names),
        separator=SEPARATOR,
        embedx_dim=columns.embedx_dim,
        embedx_optional="a key below embedx_threshold has no embedx columns",
        shard_num=shard_num,
        accessor=accessor,
        keys=keys,
    )


def inference_meta(embedx_dim: int, keys: int, pulls: Sequence[str] = PULLED[DEFAULT_ACCESSOR]) -> PartMeta:
    """The .meta of an inference model's part file."""
    columns = _columns(inference_columns(embedx_dim, pulls))
    return PartMeta(columns=columns, separator=SEPARATOR, embedx_dim=embedx_dim, keys=keys)


def _columns(names: Iterable[str]) -> tuple[Column, ...]:
    return tuple(Column(name, "uint64" if name == "key" else "float32") for name in names)


@dataclass(frozen=True)
class KeyState:
    """A line of a checkpoint's text. embedx: empty for a key below embedx_threshold."""

    key: int
    slot: int
    show: float
    click: float
    unseen_days: int
    delta_score: float
    embed_w: float
    embedx: tuple[float, ...]


def parse_line(line: bytes, columns: Sequence[str]) -> KeyState:
    """columns: names of Paddle's text, from the .meta. A line without embedx ends before it.

    Raises ValueError for a line that does not have these columns.
    """
    values = line.split()
    first = next((i for i, name in enumerate(columns) if name.startswith("embedx_")), len(columns))
    if len(values) not in (first, len(columns)):
        raise ValueError(f"it has {len(values)} columns, {len(columns)} were expected")
    by_name = dict(zip(columns, values, strict=False))
    try:
        return KeyState(
            key=int(by_name["key"]),
            slot=int(float(by_name["slot"])),
            show=float(by_name["show"]),
            click=float(by_name["click"]),
            unseen_days=int(float(by_name["unseen_days"])),
            delta_score=float(by_name["delta_score"]),
            embed_w=float(by_name["embed_w"]),
            embedx=tuple(float(v) for name, v in by_name.items() if name[:7] == "embedx_" and name[7:].isdigit()),
        )
    except KeyError as error:
        raise ValueError(f"it lacks column {error}") from error
    except OverflowError as error:
        raise ValueError(str(error)) from error


@dataclass(frozen=True)
class Thresholds:
    """What a key must reach to be in an inference model, as PaddleRec has it: its score, (show - click) *
    nonclk_coeff + click * click_coeff, at least base_threshold, and unseen_days at most delta_keep_days."""

    nonclk_coeff: float
    click_coeff: float
    base_threshold: float
    delta_threshold: float
    delta_keep_days: float

    def passes(self, columns: Sequence[bytes]) -> bool:
        show, click = float(columns[SHOW]), float(columns[CLICK])
        score = (show - click) * self.nonclk_coeff + click * self.click_coeff
        return score >= self.base_threshold and float(columns[UNSEEN_DAYS]) <= self.delta_keep_days


def shorten(data: bytes, columns: TableColumns, pulls: Sequence[str] = PULLED[DEFAULT_ACCESSOR]) -> tuple[bytes, int]:
    """Complete lines of Paddle's text as those of an inference model, and how many there are.

    pulls: the columns of an embedding ahead of embedx. A key without embedx gets zeros. Raises ValueError for a line
    that does not have these columns.
    """
    zeros = [b"0"] * columns.embedx_dim
    pick = itemgetter(KEY, *map(COLUMNS.index, pulls))
    begin, end, count = columns.embedx_begin, columns.embedx_end, columns.count
    lines = []
    for line in data.splitlines():
        values = line.split()
        if len(values) not in (count, begin):
            raise ValueError(f"a line of {len(values)} columns: {line[:80].decode('ascii', 'replace')}")
        weights = values[begin:end] or zeros
        lines.append(b" ".join((*pick(values), *weights)))
    lines.append(b"")
    return b"\n".join(lines), len(lines) - 1


def filtered(data: bytes, thresholds: Thresholds) -> bytes:
    """The lines of Paddle's text whose keys pass."""
    return b"".join(line for line in data.splitlines(keepends=True) if thresholds.passes(line.split()))
