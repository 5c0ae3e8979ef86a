"""What people see while passes are trained: a line a pass, and a progress bar on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from streamtrain.checkpoint.journal import Journal, PassRecord
from streamtrain.cli.options import number
from streamtrain.config import JobConfig
from streamtrain.schedule import PassId

if TYPE_CHECKING:
    from rich.console import Console

HEAD = f"{'pass':>12} {'rows':>9} {'predict AUC':>12} {'train AUC':>10} {'seconds':>8}"


def pass_line(record: PassRecord) -> str:
    saved = "  saved" if record.checkpoint_seconds is not None else ""
    return (
        f"{record.day + '/' + str(record.pass_id):>12} {record.rows:>9,} {number(record.predict_auc):>12} "
        f"{number(record.train_auc):>10} {record.seconds:>8.2f}{saved}"
    )


class PassPrinter:
    """Follows the journal of a job; call tick() now and then."""

    def __init__(self, config: JobConfig, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._journal = Journal(config.model_save_path)
        self._console = console
        self._total = config.schedule.total_passes
        self._index = config.schedule.pass_index
        self._shown: PassId | None = None
        #: While the journal is this file, its newest passes are about to be dropped and trained again.
        self._outdated: int | None = None
        self._bar = Progress(
            TextColumn("passes"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("passes", total=self._total)

    def __enter__(self) -> PassPrinter:
        self._bar.start()
        newest = self._journal.newest()
        self._shown = newest.id if newest is not None else None
        self._console.print(HEAD, style="bold")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tick()
        self._bar.stop()

    def tick(self) -> None:
        if self._outdated is not None and self._journal.identity() == self._outdated:
            return
        self._outdated = None
        for record in self._journal.after(self._shown):
            self._shown = record.id
            self._console.print(pass_line(record))
        self._bar.update(self._task, completed=self._index(self._shown) + 1 if self._shown is not None else 0)

    def restarted(self, count: int, reason: str) -> None:
        """Passes after the newest checkpoint are trained again: they are shown again."""
        self._console.print(f"restart {count}: {reason}", style="yellow")
        saved = (r for r in self._journal.backwards() if r.checkpoint_seconds is not None)
        newest = next(saved, None)
        self._shown = newest.id if newest is not None else None
        self._outdated = self._journal.identity()
