"""The section `table_parameters:`: the keys and types of Paddle's TableParameter, and what this package needs of them.

Paddle skips a key that it does not know without a word, so each is checked here. tests/jobs hold the names and
types to Paddle's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from streamtrain.config.suggest import suggestion
from streamtrain.contracts.table_text import ACCESSORS, DEFAULT_ACCESSOR, RULES

Count = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
Number = Annotated[float, Field(strict=True)]  # a whole number is one too

#: Rules whose statistics are means over the embedx: of none they are no numbers.
_DIVIDING = ("SparseAdaGradSGDRule", "SparseSharedAdamSGDRule")

#: Names of tables that may name a directory.
_DIRECTORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,199}")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Naive(_Part):
    learning_rate: Number | None = None
    initial_range: Number | None = None
    weight_bounds: Annotated[list[Number], Field(min_length=2, max_length=2)] | None = None


class _AdaGrad(_Naive):
    initial_g2sum: Number | None = None


class _Adam(_Naive):
    beta1_decay_rate: Number | None = None
    beta2_decay_rate: Number | None = None
    ada_epsilon: Number | None = None


class _Rule(_Part):
    name: StrictStr | None = None
    naive: _Naive | None = None
    adagrad: _AdaGrad | None = None
    adam: _Adam | None = None


class _Thresholds(_Part):
    nonclk_coeff: Number | None = None
    click_coeff: Number | None = None
    base_threshold: Number | None = None
    delta_threshold: Number | None = None
    delta_keep_days: Number | None = None
    show_click_decay_rate: Number | None = None
    delete_threshold: Number | None = None
    delete_after_unseen_days: Number | None = None
    ssd_unseenday_threshold: Count | None = None
    show_scale: StrictBool | None = None
    zero_init: StrictBool | None = None
    load_filter_slots: list[Number] | None = None
    save_filter_slots: list[Number] | None = None


class _Saves(_Part):
    """`num` is read by Paddle's own code: how many there are of each."""

    num: Count | None = None
    param: list[Count] | None = None
    converter: list[StrictStr] | None = None
    deconverter: list[StrictStr] | None = None


class _Graph(_Part):
    nodeid_slot: Count | None = None
    feature_learning_rate: Number | None = None


class _Accessor(_Part):
    accessor_class: StrictStr | None = None
    fea_dim: Count | None = None
    embedx_dim: Count | None = None
    embedx_threshold: Count | None = None
    ctr_accessor_param: _Thresholds | None = None
    table_accessor_save_param: _Saves | None = None
    embed_sgd_param: _Rule | None = None
    embedx_sgd_param: _Rule | None = None
    graph_sgd_param: _Graph | None = None


class TableParameters(_Part):
    """What Paddle takes for a sparse table."""

    table_class: StrictStr | None = None
    shard_num: Annotated[StrictInt, Field(ge=1, le=65536)] | None = None
    type: StrictStr | None = None
    accessor: _Accessor | None = None
    compress_in_save: StrictBool | None = None
    enable_sparse_table_cache: StrictBool | None = None
    sparse_table_cache_rate: Number | None = None
    sparse_table_cache_file_num: Count | None = None
    enable_revert: StrictBool | None = None
    shard_merge_rate: Number | None = None
    use_gpu_graph: StrictBool | None = None


def problems(section: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong in `table_parameters:`, by dotted key."""
    for name, values in section.items():
        where = f"table_parameters.{name}"
        if not isinstance(name, str) or (len(section) > 1 and not _DIRECTORY.fullmatch(name)):
            yield f"{where}: a table's name is the name of its directory in a checkpoint: letters, digits and ._- alone"
            continue
        if not isinstance(values, Mapping):
            yield f"{where}: must be a mapping"
            continue
        try:
            table = TableParameters.model_validate(dict(values))
        except ValidationError as error:
            yield from (_described(where, item) for item in error.errors())
            continue
        yield from _disagreements(where, table)


def _described(where: str, item: Any) -> str:
    path = item["loc"]
    name = ".".join((where, *map(str, path)))
    if item["type"] != "extra_forbidden":
        return f"{name}: {item['msg']}, found {item['input']!r}"
    return f"{name}: unknown key{suggestion(path[-1], _known(path[:-1]))}"


def _known(path: tuple[int | str, ...]) -> list[str]:
    """The keys of the part at `path`."""
    part: type[BaseModel] = TableParameters
    for key in path:
        part = next(k for k in get_args(part.model_fields[str(key)].annotation) if k is not type(None))
    return list(part.model_fields)


def _disagreements(where: str, table: TableParameters) -> Iterator[str]:
    if table.table_class not in (None, "MemorySparseTable"):
        yield f"{where}.table_class: only MemorySparseTable is trained here, found {table.table_class}"
    accessor = table.accessor
    if accessor is None:
        return
    name = DEFAULT_ACCESSOR if accessor.accessor_class is None else accessor.accessor_class
    if name not in ACCESSORS:
        yield f"{where}.accessor.accessor_class: {name}; tables are trained with {' or '.join(ACCESSORS)}"
    for key, rule in (("embed_sgd_param", accessor.embed_sgd_param), ("embedx_sgd_param", accessor.embedx_sgd_param)):
        if rule is not None and rule.name is not None and rule.name not in RULES:
            close = suggestion(rule.name, RULES) or f"; it has {', '.join(RULES)}"
            yield f"{where}.accessor.{key}.name: {rule.name} is a rule that Paddle lacks{close}"
    rule = accessor.embedx_sgd_param
    if accessor.embedx_dim == 0 and rule is not None and rule.name in _DIVIDING:
        yield (
            f"{where}.accessor.embedx_sgd_param.name: {rule.name} divides by embedx_dim, which is 0; "
            "SparseNaiveSGDRule does not"
        )
    width, dim = accessor.fea_dim, 8 if accessor.embedx_dim is None else accessor.embedx_dim
    if name in ACCESSORS and width is not None and width != dim + 3:
        yield f"{where}.accessor.fea_dim: {width}, and embedx_dim is {dim}; {name}'s fea_dim is embedx_dim + 3"
