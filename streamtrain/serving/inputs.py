"""From rows to what a model's network is fed with: embeddings out of its tables, floats, constants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from streamtrain.contracts.feature_text import I64
from streamtrain.contracts.served_network import ServedNetwork, SlotFeed, sparse_directory
from streamtrain.engine.inference import F32, Fed
from streamtrain.errors import DataError
from streamtrain.serving.rows import Columns, SlotIndex, cells
from streamtrain.serving.table import Table


class Inputs:
    """tables: by the directory of their files.

    sums: None, or the variables of the slots' feeds in the order in which the network takes their sums, as one feed.
    """

    def __init__(self, network: ServedNetwork, tables: Mapping[str, Table], sums: Sequence[str] | None = None) -> None:
        self._network = network
        by_variable = {feed.variable: feed for feed in network.slots}
        lengths = network.lengths
        self._summed: tuple[SlotIndex, Table] | None = None
        #: Of the slots in ascending order, in which rows have them mostly: the sums that the network takes; None: each
        #: once, in this order.
        self._places: I64 | None = None
        self._looked_up: list[tuple[SlotIndex, Table, list[tuple[int, int, SlotFeed]]]] = []
        if sums is not None:
            (table,) = tables.values()
            wanted = [by_variable[variable].slot for variable in sums]
            slots = sorted(set(wanted))
            self._summed = SlotIndex(slots), table
            if slots != wanted:
                self._places = np.searchsorted(slots, wanted)
            return
        for name in network.tables:
            feeds = [(place, feed) for place, feed in enumerate(network.slots) if feed.table == name]
            slots = list(dict.fromkeys(feed.slot for _, feed in feeds))
            index = SlotIndex(slots, [max(1, lengths[slot]) for slot in slots])
            table = tables[sparse_directory(name, len(network.tables))]
            self._looked_up.append((index, table, [(place, slots.index(feed.slot), feed) for place, feed in feeds]))

    def of(self, columns: Columns) -> list[Fed]:
        """In the order of the network's feeds: slots, floats, constants; the sums stand for all slots."""
        rows = len(columns)
        if self._summed is not None:
            index, table = self._summed
            found, counts = cells(columns, index, table, slots_first=False)
            first = (np.cumsum(counts) - counts.ravel()).reshape(counts.shape)
            if self._places is not None:
                first, counts = first[:, self._places], counts[:, self._places]
            fed = [Fed(table.gather_sums(found, first.ravel(), counts.ravel()).reshape(rows, -1))]
        else:
            fed = self._embeddings(columns)
        begin = 0
        for feed in self._network.dense:
            assert columns.dense is not None
            values = columns.dense[:, begin : begin + feed.width]
            fed.append(Fed(np.ascontiguousarray(values).reshape(rows, *feed.shape)))
            begin += feed.width
        for constant in self._network.constants:
            kind = np.int64 if constant.integer else np.float32
            fed.append(Fed(np.full((rows, 1), constant.value, kind)))
        return fed

    def _embeddings(self, columns: Columns) -> list[Fed]:
        """Of each slot's feed. Hundreds of them: what can be computed of all at once is."""
        fed: dict[int, Fed] = {}
        for index, table, feeds in self._looked_up:
            found, counts = cells(columns, index, table, slots_first=True)
            vectors: F32 = table.gather(found)
            within = np.zeros((len(counts), len(columns) + 1), np.int64)
            np.cumsum(counts, axis=1, out=within[:, 1:])
            offsets = within.tolist()
            begins = [0, *np.cumsum(within[:, -1]).tolist()]
            for place, slot, feed in feeds:
                own = vectors[begins[slot] : begins[slot + 1]]
                fed[place] = Fed(own, None if feed.length else offsets[slot])
        return [fed[place] for place in range(len(fed))]


def check_lengths(columns: Columns, fixed: Sequence[SlotFeed], first: int, name: str) -> None:
    """Raises DataError for a row with more feasigns of a slot than its feed takes; rows are counted from `first`, and
    called `name`. fixed: a feed of each slot that is not a sequence."""
    for feed in fixed:
        row = np.repeat(np.arange(len(columns)), columns.counts)
        own = row[(columns.slots == feed.slot) & (columns.feasigns != 0)]
        counts = np.bincount(own, minlength=len(columns))
        if (wrong := np.flatnonzero(counts > feed.length)).size:
            raise DataError(
                f"{name} {first + int(wrong[0])}: {feed.name} has {counts[wrong[0]]} feasigns, the model takes "
                f"{feed.length}"
            )
