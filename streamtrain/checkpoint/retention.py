"""What may be deleted of checkpoints and inference models. Pure.

Never the two newest checkpoints: the newest one is what a restart loads, the other what it falls back on. Never the
newest full inference model and the incremental ones over it, nor a full one without those over it: a reader loads
them together.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from streamtrain.contracts.donefiles import DoneLine
from streamtrain.schedule import PassId

#: Checkpoints that are always kept.
LEAST_CHECKPOINTS = 2
#: Seconds that replaced inference models stay for readers that have just read the donefiles.
GRACE_S = 600.0


@dataclass(frozen=True)
class Keep:
    """What is kept: the newest `count`, and what is younger than `seconds`."""

    count: int
    seconds: float


def old_checkpoints(
    made: Sequence[tuple[PassId, float]], keep: Keep, now: float, needed: Collection[PassId] = ()
) -> list[PassId]:
    """Those to delete, oldest first. made: (pass, when it was made, seconds since 1970), of valid checkpoints up to
    the restored one. A damaged checkpoint does not count against `keep.count`. needed: kept in any case."""
    ordered = sorted(made)
    older = ordered[: -max(keep.count, LEAST_CHECKPOINTS)]
    return [pass_id for pass_id, made in older if now - made >= keep.seconds and pass_id not in needed]


def old_models(lines: Sequence[DoneLine], keep: Keep, now: float, grace_s: float = GRACE_S) -> list[DoneLine]:
    """The lines of those to delete. keep.count counts full models; an age is that of the last one over it.

    lines: of both donefiles, each in its order: the file's, since a clock may be set back. An incremental one whose
    full one is not listed is of no use.
    """
    chains: dict[str, list[DoneLine]] = {line.digest: [line] for line in lines if line.kind == "full"}
    for line in lines:
        if line.kind == "incremental" and _base(line) in chains:
            chains[_base(line)].append(line)
    ordered = list(chains.values())
    gone: list[DoneLine] = [line for line in lines if line.kind == "incremental" and _base(line) not in chains]
    for number, chain in enumerate(ordered[: -keep.count]):
        replaced = ordered[number + 1][0].published
        if now - chain[-1].published >= keep.seconds and now - replaced >= grace_s:
            gone += chain
    return gone


def _base(line: DoneLine) -> str:
    return line.base.digest if line.base is not None else ""
