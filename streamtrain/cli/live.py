"""What people see while passes are trained: a line a pass, and a progress bar on a terminal."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from streamtrain.checkpoint.journal import Journal, PassRecord
from streamtrain.cli.options import number
from streamtrain.config import JobConfig

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
        self._seen: set[tuple[str, int]] = set()
        self._bar = Progress(
            TextColumn("passes"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("passes", total=self._total)

    def __enter__(self) -> PassPrinter:
        self._bar.start()
        for record in self._journal.read():
            self._seen.add((record.day, record.pass_id))
        self._console.print(HEAD, style="bold")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.tick()
        self._bar.stop()

    def tick(self) -> None:
        records = self._journal.read()
        for record in records:
            key = (record.day, record.pass_id)
            if key not in self._seen:
                self._seen.add(key)
                self._console.print(pass_line(record))
        self._bar.update(self._task, completed=len(records))

    def restarted(self, count: int, reason: str) -> None:
        """Passes after the newest checkpoint are trained again: they are shown again."""
        self._console.print(f"restart {count}: {reason}", style="yellow")
        saved = [r for r in self._journal.read() if r.checkpoint_seconds is not None]
        newest = saved[-1].id if saved else None
        self._seen = {k for k in self._seen if newest is not None and k <= (newest.day, newest.pass_id)}
