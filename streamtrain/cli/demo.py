"""streamtrain demo"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamtrain.cli.options import stop_on_signals

if TYPE_CHECKING:
    from streamtrain.config import JobConfig

DEFAULT_DAYS = 60


def command(
    directory: Annotated[Path, typer.Option("--dir", help="Folder for all of it; emptied first.")] = Path("demo-run"),
    days: Annotated[int, typer.Option("--days", min=0, help="Days of the stream; 0: all 213.")] = DEFAULT_DAYS,
    model: Annotated[str, typer.Option("--model", help="One of docs/models-included.md.")] = "slot_dnn",
) -> None:
    """MovieLens-100K through Kafka into a model, with a kill -9 in the middle and a recount at the end."""
    from rich.console import Console

    from streamtrain.cli.live import PassPrinter
    from streamtrain.cli.status import consistency_text
    from streamtrain.demo.run import run as run_demo
    from streamtrain.errors import StreamtrainError

    console = Console(highlight=False, markup=False, soft_wrap=True)
    with ExitStack() as stack:

        def follow(config: JobConfig) -> tuple[Callable[[], None], Callable[[int, str], None]]:
            printer = stack.enter_context(PassPrinter(config, console))
            return printer.tick, printer.restarted

        summary = run_demo(
            directory.absolute(), days, model=model, say=lambda text: console.print(text, style="cyan"),
            follow=follow, stop=stop_on_signals(),
        )  # fmt: skip
    recount = summary["recount"]
    console.print(
        f"\n{summary['rows_trained']:,} rows trained in {len(summary['passes'])} passes, "
        f"{summary['restarts']} restart(s), {summary['rows_rejected']} lines rejected\n"
        f"recount of {recount['keys']:,} keys: lost {recount['lost']}, duplicated {recount['duplicated']}\n"
        f"{_of_labels(summary['labels'])}\n"
        f"{consistency_text(summary['consistency'])}\n"
        f"plot {directory / 'auc.png'}, figures {directory / 'summary.json'}"
    )
    if recount["lost"] or recount["duplicated"] or summary["rows_published"] != summary["rows_trained"]:
        raise StreamtrainError("the recount differs from the checkpoint", remedy="See summary.json.")
    if not summary["consistency"] or not summary["consistency"]["ok"]:
        raise StreamtrainError("the exported model is not the trainer's", remedy="See summary.json.")


def _of_labels(labels: dict[str, dict[str, dict[str, float | None]]]) -> str:
    """Two lines a label; its name where there are several."""
    lines = []
    for name, found in labels.items():
        of = f" of {name}" if len(labels) > 1 else ""
        auc, copc = (
            f"{_number(found['all'][metric])} over all, {_number(found['second_half'][metric])} over the second half"
            for metric in ("auc", "copc")
        )
        lines += [f"AUC{of} of rows predicted before they were trained: {auc}", f"COPC{of} of the same rows: {copc}"]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.4f}"
