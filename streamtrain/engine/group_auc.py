"""The AUC by group (GAUC): how well the rows of one user, or another group, are ordered among themselves. Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def group_auc(
    groups: npt.NDArray[np.uint64], clicked: npt.NDArray[np.bool_], predicted: npt.NDArray[np.float32]
) -> float | None:
    """The mean of the groups' AUCs, weighted by their rows. All arrays: [rows].

    Rows of group 0 belong to none. A group of clicks alone, or without any, has no AUC and counts nothing; None when no
    group has one. Equal predictions of a group are ties and count half.
    """
    known = groups != 0
    groups, clicked, predicted = groups[known], clicked[known], predicted[known]
    if not groups.size:
        return None
    order = np.lexsort((predicted, groups))
    groups, clicked, predicted = groups[order], clicked[order], predicted[order]
    new_group = np.concatenate([[True], groups[1:] != groups[:-1]])
    group = np.cumsum(new_group) - 1
    tie = np.cumsum(new_group | np.concatenate([[True], predicted[1:] != predicted[:-1]])) - 1
    ties = np.bincount(tie)
    last = np.cumsum(ties) - 1
    mean_place = (last - (ties - 1) / 2)[tie] - np.flatnonzero(new_group)[group]  # from 0 in the group
    rows = np.bincount(group)
    clicks = np.bincount(group, clicked)
    others = rows - clicks
    pairs = clicks * others
    below = np.bincount(group, mean_place * clicked) - clicks * (clicks - 1) / 2
    has_auc = pairs > 0
    if not has_auc.any():
        return None
    return float((below[has_auc] / pairs[has_auc] * rows[has_auc]).sum() / rows[has_auc].sum())
