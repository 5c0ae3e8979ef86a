"""What the AUC by group needs to know of a pass's rows: each one's group and labels. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from streamtrain.contracts.sample import SampleBatch


@dataclass(frozen=True)
class RowGroups:
    """A row each, in the order of the pass's text. groups: [rows], the first feasign of the group's slot, 0 for a row
    without one; labels: [rows, labels], whether the label is over 0, in the job's order."""

    groups: npt.NDArray[np.uint64]
    labels: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.groups)

    def taken(self, order: npt.NDArray[np.int64]) -> RowGroups:
        """In another order."""
        return RowGroups(self.groups[order], self.labels[order])


def groups_of(batch: SampleBatch, slot: int) -> RowGroups:
    """Of a batch's rows, by that slot."""
    groups = np.zeros(len(batch), np.uint64)
    rows = np.repeat(np.arange(len(batch)), batch.counts)
    of_slot = np.flatnonzero(batch.slots == slot)[::-1]  # the first one of a row is written last
    groups[rows[of_slot]] = batch.feasigns[of_slot]
    labels = batch.labels[:, None] if batch.values is None else batch.values.labels
    return RowGroups(groups, labels > 0)


def joined(parts: list[RowGroups], labels: int) -> RowGroups:
    """One after the other; labels: how many each row has."""
    none = RowGroups(np.zeros(0, np.uint64), np.zeros((0, labels), np.bool_))
    every = [none, *parts]
    return RowGroups(np.concatenate([p.groups for p in every]), np.concatenate([p.labels for p in every]))
