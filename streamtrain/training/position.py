"""Where in the stream the model in the servers is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from streamtrain.contracts.manifest import Manifest
from streamtrain.feed.passes import PassPlan
from streamtrain.schedule import Schedule


@dataclass
class Position:
    """Where in the stream the model in the servers is.

    pass_index: of the next pass. offsets: where it begins, by partition; None before a restore. saved: whether the
    newest checkpoint contains all of it. The other fields are those of the manifest.
    """

    pass_index: int = 0
    marker_offset: int = 0
    offsets: dict[int, int] | None = None
    rows: int = 0
    shrinks: int = 0
    deletions: int = 0
    late_rows: int = 0
    untrained: tuple[str, ...] = ()
    event_time: str = ""
    saved: bool = True

    @classmethod
    def of_manifest(cls, manifest: Manifest, pass_index: int) -> Position:
        offsets = {int(p): o for p, o in manifest.offsets.items()}
        return cls(
            pass_index, manifest.marker_offset, offsets, manifest.rows, manifest.shrinks, manifest.deletions,
            manifest.late_rows, manifest.untrained, manifest.event_time,
        )  # fmt: skip

    def advance(self, plan: PassPlan, schedule: Schedule, *, trained: bool) -> None:
        """Past the plan's pass. trained: whether its rows were trained."""
        first = self.pass_index * schedule.split_per_pass
        self.pass_index += 1
        self.marker_offset = plan.end_offset
        self.offsets = plan.ends(self.offsets or {})
        self.late_rows += sum(m.rows for m in plan.markers if m.sequence < first)
        if trained:
            self.rows += plan.rows
        else:
            self.untrained = (*self.untrained, str(plan.id))
        self.event_time = schedule.ends_at(schedule.last_sequence(plan.id))
        self.saved = False
