"""A source's files as this job's servers load them: sparse text in shard_num files by key, dense values by name.

Paddle 3.0.0 keeps a key in shard key % shard_num, and a server loads its shards from the files that have their places
in the order of names. So each key is written into the file of its shard.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from streamtrain.checkpoint.table_files import BLOCK, MAX_LINE
from streamtrain.checkpoint.warm_source import Source, blocks, reading
from streamtrain.contracts.table_text import CLICK, SHOW, UNSEEN_DAYS
from streamtrain.contracts.warm_plan import DENSE, TablePlan
from streamtrain.contracts.warmup import KEY, encode_counts
from streamtrain.errors import CheckpointError, ConfigError


def write_table(parts: Sequence[Path], plan: TablePlan, shard_num: int, target: Path, counts: Path) -> int:
    """Writes shard_num files into the empty directory `target`, and the counts; returns the number of keys.

    Raises CheckpointError for a line that is none of the table, naming its file and number.
    """
    keys, shows, clicks, unseen = array("Q"), array("d"), array("d"), array("l")
    with ExitStack() as stack:
        outs = [stack.enter_context((target / f"part-000-{i:05d}").open("wb")) for i in range(shard_num)]
        for part in parts:
            number, rest = 0, b""
            for block in blocks(part, BLOCK):
                *lines, rest = (rest + block).split(b"\n")
                if len(rest) > MAX_LINE:
                    raise _wrong(part, number + 1, "it is too long", plan)
                for number, line in enumerate(lines, number + 1):  # noqa: B020
                    try:
                        text, values = plan.line(line)
                        key = int(values[0])
                        keys.append(key)
                        shows.append(float(values[SHOW]))
                        clicks.append(float(values[CLICK]))
                        unseen.append(int(float(values[UNSEEN_DAYS])))
                    except (ValueError, OverflowError) as error:
                        raise _wrong(part, number, str(error), plan) from error
                    outs[key % shard_num].write(text + b"\n")
            if rest:
                raise _wrong(part, number + 1, "it is cut", plan)
    try:
        data = encode_counts(*(np.array(column) for column in (keys, shows, clicks, unseen)))
    except ValueError as error:
        raise CheckpointError(f"{KEY}: table {plan.source.name} of {parts[0].parent}: {error}") from error
    counts.write_bytes(data)
    return len(keys)


def _wrong(part: Path, number: int, why: str, plan: TablePlan) -> CheckpointError:
    return CheckpointError(
        f"{KEY}: {part}, line {number}: {why}",
        remedy=f"It is no line of the table that table_parameters.{plan.wanted.name} says: embedx_dim and the rules "
        "must be those that it was trained with.",
    )


def check_columns(source: Source, plans: Mapping[str, TablePlan]) -> None:
    """Of a PaddleRec source, whose columns nobody says: the first line of each table that has one. Raises ConfigError
    by the table's name."""
    for name, plan in plans.items():
        for part in source.files[name]:
            with reading(part) as file:
                line = file.readline(MAX_LINE)
            if not line:
                continue
            try:
                plan.line(line.rstrip(b"\n"))
            except ValueError as error:
                raise ConfigError(
                    f"{KEY}: {part}: {error}; table_parameters.{name}.accessor says these columns",
                    remedy="embedx_dim, embed_sgd_param.name and embedx_sgd_param.name must be those that the table "
                    "was trained with.",
                ) from error
            break


def dense_of_paddlerec(
    source: Source, wanted: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, npt.NDArray[np.float32]], int]:
    """Values of the network's dense parameters in the order of their names, as Paddle lays them out, and how many
    columns a number has in the file. Raises ConfigError when the count is not that of the network."""
    rows = [row for part in source.dense_files for row in _rows(part)]
    numbers = sum(int(np.prod(shape)) for shape in wanted.values())
    if len(rows) != numbers:
        raise ConfigError(
            f"{KEY}: the dense table in {source.dense_files[0].parent} has {len(rows)} numbers, the network has "
            f"{numbers}: {', '.join(f'{name} {list(shape)}' for name, shape in sorted(wanted.items()))}",
            remedy=f"The network must be the one that was trained; {DENSE}: false takes its sparse tables alone.",
        )
    values = np.array([row[0] for row in rows], np.float32)
    found, begin = {}, 0
    for name in sorted(wanted):
        size = int(np.prod(wanted[name]))
        found[name] = values[begin : begin + size].reshape(wanted[name])
        begin += size
    return found, len(rows[0]) if rows else 0


def _rows(part: Path) -> list[list[float]]:
    with reading(part) as file:
        try:
            return [[float(value) for value in line.split()] for line in file if line.strip()]
        except ValueError as error:
            raise CheckpointError(f"{KEY}: {part} is no dense table: {error}", remedy="Restore it.") from error
