"""The look-ups of a network in its sparse tables, and what each table counts as show and click.

Paddle 3.0.0 takes the ShowClickEntry of one look-up for all tables, and one word for all of them on whether show and
click come through continuous_value_model (measured). So each table's own are set in the operators that push: before
the optimizer is made every look-up gets an entry, after it every push its table's.

SparseAccessor gives a network embed_w and embedx; it counts what its entry says. CtrCommonAccessor gives show, click,
embed_w and embedx; it counts the second input of the continuous_value_model that its embeddings go through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from streamtrain.contracts.network import UNKNOWN, NetworkFeed, TableUse
from streamtrain.contracts.row_layout import RowLayout
from streamtrain.contracts.table_text import CVM_ACCESSOR
from streamtrain.engine.trace import Trace
from streamtrain.errors import ConfigError
from streamtrain.user_code import place_in

_ENTRY = "show_click_entry"
#: Between an embedding and continuous_value_model: they give each feasign the gradient of its row.
_SUMS = ("sequence_pool", "sum", "elementwise_add", "assign")


@dataclass(frozen=True)
class Lookup:
    """An operator of sparse_embedding. feed: the slot's. variable: its output. place: `file, line N` of the user's
    code."""

    op: Any
    table: str
    feed: str
    variable: str
    place: str


@dataclass(frozen=True)
class Counting:
    """What a table counts. shows, clicks: the variables that the push reads. use: for those who do not run Paddle."""

    shows: str
    clicks: str
    cvm: bool
    use: TableUse


def type_of(variable: Any) -> str:
    """`float32`, `int64` and so on, whichever of its two names Paddle gives the type."""
    name = str(variable.dtype).rpartition(".")[2].lower()
    return {"fp32": "float32", "fp64": "float64"}.get(name, name)


def find_lookups(block: Any, trace: Trace, feeds: Sequence[str], file: Path) -> list[Lookup]:
    """In the order of the program. Raises ConfigError for a look-up of a feed in a table that is no parameter
    server's."""
    found = []
    for op in block.ops:
        if op.type not in ("lookup_table", "lookup_table_v2"):
            continue
        feed = trace.origin(op.input("Ids")[0])
        place = place_in(op.attr("op_callstack") if op.has_attr("op_callstack") else (), file.parent)
        if feed not in feeds and op.type == "lookup_table" and op.attr("is_distributed"):
            raise ConfigError(
                f"{place}: table {op.input('W')[0]} is looked up by {feed}, which the network computes: nobody can "
                "tell then which rows have which feasigns",
                remedy="Give sparse_embedding the feed of a slot.",
            )
        several = [] if feed in feeds else _concatenated(feed, trace, feeds)
        if several:
            raise ConfigError(
                f"{place}: the feeds {several[0]} to {several[-1]} are looked up together in {op.input('W')[0]}, an "
                "embedding that no server keeps",
                remedy="Use paddle.static.nn.sparse_embedding(.., param_attr=paddle.ParamAttr(name=..)) for each of "
                "them, and paddle.stack(.., axis=1).",
            )
        if feed not in feeds:
            continue
        if op.type != "lookup_table" or not op.attr("is_distributed"):
            raise ConfigError(
                f"{place}: feed {feed} is looked up in {op.input('W')[0]}, an embedding that no server keeps",
                remedy="Use paddle.static.nn.sparse_embedding(.., param_attr=paddle.ParamAttr(name=..)).",
            )
        found.append(Lookup(op, op.input("W")[0], feed, op.output("Out")[0], place))
    return found


def _concatenated(name: str, trace: Trace, feeds: Sequence[str]) -> list[str]:
    """The feeds that a variable is the concatenation of; none when it is something else."""
    maker = trace.maker(name)
    found = [trace.origin(part) for part in maker.input("X")] if maker is not None and maker.type == "concat" else []
    return found if all(part in feeds for part in found) else []


def prepare(lookups: Sequence[Lookup], slots: Mapping[str, int]) -> None:
    """Before the optimizer is made. slots: numbers by feed, for the table's text: Paddle drops sparse_embedding's own
    argument for it. Feasign 0 is padding, whatever padding_idx the code gives. A look-up without an entry gets one
    that says 1 and 0: what Paddle takes then, under names of its own that a feed may have."""
    import paddle  # here: this module is imported where nothing is built

    constants = ""
    for lookup in lookups:
        lookup.op._set_attr("slot", slots[lookup.feed])
        lookup.op._set_attr("padding_idx", 0)
        if not lookup.op.attr("entry").startswith(_ENTRY):
            if not constants:
                shows, clicks = (paddle.full([1], value, "float32").name for value in (1.0, 0.0))
                constants = f"{_ENTRY}:{shows}:{clicks}"
            lookup.op._set_attr("entry", constants)


def counting(
    lookups: Sequence[Lookup], trace: Trace, feeds: Sequence[NetworkFeed], layout: RowLayout | None,
    accessors: Mapping[str, str], widths: Mapping[str, int],
) -> dict[str, Counting]:  # fmt: skip
    """By table, in the order of their names, after prepare(). accessors: their classes. Raises ConfigError for a table
    whose look-ups do not agree, or that cannot be trained as its accessor wants it."""
    by_name = {feed.name: feed for feed in feeds}
    found = {}
    for table in sorted({lookup.table for lookup in lookups}):
        own = [lookup for lookup in lookups if lookup.table == table]
        cvm = accessors.get(table) == CVM_ACCESSOR
        if cvm:
            shows, clicks = _of_cvm(table, own, trace)
        else:
            _refuse_cvm(table, own, trace)
            shows, clicks = _of_entry(table, own)
        wide = [lookup for lookup in own if by_name[lookup.feed].width > 1]
        if wide and trace.constant(clicks) != 0:  # Paddle goes by the number of the feasign then, not of the row
            raise ConfigError(
                f"{wide[0].place}: table {table} is read by {wide[0].feed}, which has {by_name[wide[0].feed].width} "
                "feasigns a row with lod_level 0: Paddle would count clicks of other rows",
                remedy=f"Write paddle.static.data({wide[0].feed!r}, [None, 1], 'int64', 1), or give the table no "
                "ShowClickEntry.",
            )
        use = TableUse(
            table,
            tuple(sorted(by_name[lookup.feed].slot for lookup in own)),
            show=trace.is_one(shows) and (not cvm or _each_row(own, trace)),
            click=_label_of(clicks, trace, feeds, layout),
            width=widths[table],
        )
        found[table] = Counting(shows, clicks, cvm, use)
    return found


def as_floats(block: Any, counted: Mapping[str, Counting], lookups: Sequence[Lookup]) -> dict[str, Counting]:
    """Before the optimizer is made: what the tables count, as float32 of one number a row. Paddle's push reads the
    bytes of whatever variable it is given as float32: of an int64 it makes 1e-44. Raises ConfigError for a variable
    that the network does not have: workers die of it."""
    import paddle  # here: this module is imported where nothing is built

    made: dict[tuple[str, int], str] = {}

    def floats(table: str, name: str, column: int) -> str:
        if not block.has_var(name):
            place = next(lookup.place for lookup in lookups if lookup.table == table)
            raise ConfigError(
                f"{place}: the ShowClickEntry of table {table} names {name}, which is no variable of the network",
                remedy="Give it the names of two variables: paddle.distributed.ShowClickEntry(show.name, click.name).",
            )
        variable = block.var(name)
        wide = len(variable.shape) == 2 and variable.shape[1] == 2  # both, as continuous_value_model has them
        key = (name, column if wide else 0)
        if key not in made:
            if wide:
                variable = paddle.slice(variable, axes=[1], starts=[column], ends=[column + 1])
            if type_of(variable) != "float32":
                variable = paddle.cast(variable, "float32")
            made[key] = variable.name
        return made[key]

    return {
        table: replace(own, shows=floats(table, own.shows, 0), clicks=floats(table, own.clicks, 1))
        for table, own in counted.items()
    }


def set_pushes(
    program: Any, counted: Mapping[str, Counting], lookups: Sequence[Lookup], slots: Mapping[str, int], file: Path
) -> None:
    """After the optimizer was made: each table's push reads its own show and click. Raises ConfigError for a look-up
    that the loss does not depend on: its feasigns would not be counted. file: the model's."""
    names = sorted(counted)
    pushed: dict[str, list[int]] = {}
    for op in program.global_block().ops:
        if op.type != "distributed_push_sparse":
            continue
        name = names[op.attr("table_id")]
        own = counted[name]
        op.desc.set_input("Shows", [own.shows])
        op.desc.set_input("Clicks", [own.clicks])
        op._set_attr("use_cvm_op", own.cvm)
        pushed.setdefault(name, []).extend(op.attr("slots"))
    if not pushed:
        raise ConfigError(
            f"{file}: create_optimizer() trains no table",
            remedy="Write optimizer = paddle.distributed.fleet.distributed_optimizer(optimizer, strategy), then "
            "optimizer.minimize(loss) with a loss that depends on an embedding.",
        )
    for name, own in counted.items():
        if lost := Counter(own.use.slots) - Counter(pushed.get(name, ())):
            raise not_used(next(each for each in lookups if each.table == name and slots[each.feed] in lost))


def not_used(lookup: Lookup) -> ConfigError:
    """For an embedding without a gradient."""
    return ConfigError(
        f"{lookup.place}: the loss does not depend on the embedding of {lookup.feed} in table {lookup.table}",
        remedy="Use it in the network, or do not look it up.",
    )


def _of_entry(table: str, own: Sequence[Lookup]) -> tuple[str, str]:
    """The variables of the table's ShowClickEntry."""
    entries = {lookup.op.attr("entry"): lookup for lookup in own}
    if len(entries) > 1:
        places = " and ".join(lookup.place for lookup in entries.values())
        raise ConfigError(
            f"table {table} is looked up with {len(entries)} different entries: {places}",
            remedy="Give every sparse_embedding of a table the same ShowClickEntry.",
        )
    _, shows, clicks = next(iter(entries)).split(":")
    return shows, clicks


def _of_cvm(table: str, own: Sequence[Lookup], trace: Trace) -> tuple[str, str]:
    """Show and click of the second input of continuous_value_model."""
    inputs = {}
    for lookup in own:
        models = list(_models(lookup.variable, trace))
        if not models or None in models:
            raise ConfigError(
                f"{lookup.place}: table {table} has the accessor {CVM_ACCESSOR}, whose embeddings begin with show and "
                "click, and this one is used without paddle.static.nn.continuous_value_model",
                remedy="Pool it by sequence_pool(.., 'sum'), then call continuous_value_model with the rows' show and "
                "click; or use SparseAccessor.",
            )
        inputs.update({model.input("CVM")[0]: lookup for model in models})
    if len(inputs) > 1:
        raise ConfigError(
            f"{own[0].place}: table {table} goes through continuous_value_model with {len(inputs)} different inputs",
            remedy="Give all of them the same show and click.",
        )
    both = trace.origin(next(iter(inputs)))
    maker = trace.maker(both)
    parts = maker.input("X") if maker is not None and maker.type == "concat" else []
    return (parts[0], parts[1]) if len(parts) == 2 else (both, both)


def _models(variable: str, trace: Trace) -> Iterator[Any]:
    """The continuous_value_models that it goes through; None for a reader that is none."""
    for op in trace.readers(variable):
        if op.type == "cvm":
            yield op if variable in op.input("X") else None
        elif op.type in _SUMS:
            for name in op.output("Out"):
                yield from _models(name, trace)
        else:
            yield None


def _refuse_cvm(table: str, own: Sequence[Lookup], trace: Trace) -> None:
    for lookup in own:
        if any(model is not None for model in _models(lookup.variable, trace)):
            raise ConfigError(
                f"{lookup.place}: the embedding goes through continuous_value_model, and the accessor of table {table} "
                "does not give show and click",
                remedy=f"Write table_parameters.{table}.accessor.accessor_class: {CVM_ACCESSOR}; the embedding has "
                "embedx_dim + 3 numbers then.",
            )


def _each_row(own: Sequence[Lookup], trace: Trace) -> bool:
    """Whether sequence_pool, where it is, sums: an average would divide show and click."""
    names, seen = [lookup.variable for lookup in own], set[str]()
    while names:
        for op in trace.readers(names.pop()):
            if op.type == "sequence_pool" and op.attr("pooltype") != "SUM":
                return False
            if op.type in _SUMS:
                names += [name for name in op.output("Out") if name not in seen]
                seen.update(op.output("Out"))
    return True


def _label_of(clicks: str, trace: Trace, feeds: Sequence[NetworkFeed], layout: RowLayout | None) -> str:
    """The job's name of the label that a variable is; '' when it is 0, '?' when it is something else."""
    labels = [each.name for each in feeds if each.kind == "label"]
    feed = trace.origin(clicks)
    if feed not in labels:
        return "" if trace.constant(clicks) == 0 else UNKNOWN
    if layout is not None and len(labels) == 1 == len(layout.labels):
        return layout.labels[0].name
    return feed
