"""What of a source's tables and dense parameters a network takes at a warm start, and why not the rest. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from streamtrain.contracts.table_text import EMBED_W, TableColumns
from streamtrain.contracts.warmup import Part

#: The key that says so.
STATISTICS, DENSE = "stream.warmup.statistics", "stream.warmup.dense"


@dataclass(frozen=True)
class TableShape:
    """A table as a source has it, or as the config wants it. accessor: '' where nobody says it. columns: of its text.
    embedx: where embedx begins and ends in them. rules: of embed_w and embedx, '' where nobody says them. fresh: of the
    config's, what the optimizer's statistics of embed_w and of embedx begin as, as text."""

    name: str
    columns: tuple[str, ...]
    embedx: tuple[int, int]
    accessor: str = ""
    rules: tuple[str, str] = ("", "")
    fresh: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    @property
    def dim(self) -> int:
        return self.embedx[1] - self.embedx[0]

    @classmethod
    def of(
        cls, name: str, columns: TableColumns, accessor: str = "", rules: tuple[str, str] = ("", ""),
        fresh: tuple[tuple[str, ...], tuple[str, ...]] = ((), ()),
    ) -> TableShape:  # fmt: skip
        return cls(name, columns.names, (columns.embedx_begin, columns.embedx_end), accessor, rules, fresh)


@dataclass(frozen=True)
class TablePlan:
    """How a table's lines become the config's. statistics: kept as they are. embedx: whether a key keeps it."""

    source: TableShape
    wanted: TableShape
    statistics: bool
    embedx: bool = True

    def line(self, line: bytes) -> tuple[bytes, list[bytes]]:
        """A line of the source as one of the config's table, and the source's columns. Raises ValueError for a line
        that does not have the source's columns."""
        values = line.split()
        begin, end = self.source.embedx
        if len(values) not in (begin, len(self.source.columns)):
            raise ValueError(
                f"a line of {len(values)} columns, {len(self.source.columns)} were expected, or {begin} without embedx"
            )
        if self.statistics:
            return line, values
        embed_state, embedx_state = self.wanted.fresh
        columns = [*values[: EMBED_W + 1], *(text.encode() for text in embed_state)]
        if self.embedx and len(values) > begin:
            columns += [*values[begin:end], *(text.encode() for text in embedx_state)]
        return b" ".join(columns), values


@dataclass(frozen=True)
class Plan:
    """tables, dense: what is taken, by name. dense_state: whether the dense table with its optimizer's state is taken
    whole. parts: for the table that is shown and kept, without counts of keys. problems: what refuses the start."""

    tables: Mapping[str, TablePlan] = field(default_factory=dict)
    dense: Sequence[str] = ()
    dense_state: bool = False
    parts: Sequence[Part] = ()
    problems: Sequence[str] = ()


def plan_tables(
    source: Mapping[str, TableShape], wanted: Mapping[str, TableShape], *, statistics: bool
) -> tuple[dict[str, TablePlan], list[Part], list[str]]:
    """What is taken of each table, by name; the parts; what is refused: a line a key that differs."""
    plans: dict[str, TablePlan] = {}
    parts: list[Part] = []
    problems: list[str] = []
    for name in sorted({*source, *wanted}):
        if name not in wanted:
            parts.append(Part("table", name, "no", "the network has no such table"))
            continue
        if name not in source:
            parts.append(Part("table", name, "no", "the source has no such table: it starts empty"))
            continue
        old, new = source[name], wanted[name]
        differing = list(_differences(old, new))
        if statistics and differing:
            problems += [f"table_parameters.{name}.{text}" for text in differing]
            continue
        embedx = old.dim == new.dim
        plans[name] = TablePlan(old, new, statistics, embedx)
        why = "" if statistics else f"{STATISTICS}: false"
        if not embedx:
            why += f"; embedx starts fresh: embedx_dim was {old.dim}, it is {new.dim}"
        parts.append(Part("table", name, "all" if statistics else "values", why))
    return plans, parts, problems


def _differences(old: TableShape, new: TableShape) -> list[str]:
    """Keys of the accessor that differ."""
    found = []
    if old.accessor and new.accessor and old.accessor != new.accessor:
        found.append(f"accessor.accessor_class: {old.accessor} in the source, {new.accessor} now")
    if old.dim != new.dim:
        found.append(f"accessor.embedx_dim: {old.dim} in the source, {new.dim} now")
    for key, before, now in zip(("embed_sgd_param", "embedx_sgd_param"), old.rules, new.rules, strict=True):
        if before and now and before != now:
            found.append(f"accessor.{key}.name: {before} in the source, {now} now")
    if not found and old.columns != new.columns:
        only = [" ".join(n for n in a if n not in b) or "none" for a, b in _both_ways(old.columns, new.columns)]
        found.append(
            "accessor.embed_sgd_param.name or embedx_sgd_param.name: the source alone has the columns "
            f"{only[0]}, the config alone {only[1]}"
        )
    return found


def _both_ways(one: Sequence[str], two: Sequence[str]) -> list[tuple[Sequence[str], Sequence[str]]]:
    return [(one, two), (two, one)]


def plan_dense(
    source: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]], *, wish: bool, statistics: bool,
    state: str = "", own: Collection[str] = (),
) -> tuple[list[str], bool, list[Part]]:  # fmt: skip
    """Names that are taken, whether with the optimizer's state, the parts. Shapes by name. wish: stream.warmup.dense.
    state: why the optimizer's state cannot be taken, '' when it can. own: parameters without one,
    which no optimizer changes."""
    if not wish:
        return [], False, [Part("dense", name, "no", f"{DENSE}: false") for name in sorted(wanted)]
    before, now = ({n: tuple(shape) for n, shape in of.items() if n not in own} for of in (source, wanted))
    same = before == now
    if not same:
        state = "the optimizer's state is one for all parameters, and they are not the same"
    whole = statistics and not state
    why = "" if whole else (state if statistics else f"{STATISTICS}: false")
    taken: list[str] = []
    parts: list[Part] = []
    for name in sorted({*source, *wanted}):
        if name not in wanted:
            parts.append(Part("dense", name, "no", "the network has no such parameter"))
        elif name not in source:
            parts.append(Part("dense", name, "no", "the source has no such parameter: it starts fresh"))
        elif tuple(source[name]) != tuple(wanted[name]):
            shapes = f"its shape was {list(source[name])}, it is {list(wanted[name])}: it starts fresh"
            parts.append(Part("dense", name, "no", shapes))
        else:
            taken.append(name)
            parts.append(Part("dense", name, "all" if whole else "values", why))
    return taken, whole and bool(taken), parts
