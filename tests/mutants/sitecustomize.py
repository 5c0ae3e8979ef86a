"""Breaks the code on purpose, in every process that has this folder on its PYTHONPATH: see test_mutants.

Each mutant gets past the trainer's own counts, so that only a proof from outside can find it.
"""

from typing import Any

MUTANT = ""  # support/mutants.py names one in a copy of this file


def blind_the_trainer() -> None:
    from streamtrain.training.pass_step import PassStep

    PassStep._check_rows = staticmethod(lambda *_arguments: None)  # type: ignore[method-assign]


def change_first_batch(change: Any) -> None:
    """change(lines) makes other lines out of the first batch's."""
    from streamtrain.feed.multislot import MultiSlotWriter

    original, seen = MultiSlotWriter.text, []

    def text(self: Any, batch: Any, ins_ids: Any = None) -> bytes:
        written: bytes = original(self, batch, ins_ids)
        if seen:
            return written
        seen.append(1)
        lines = written.splitlines(keepends=True)
        return b"".join(change(lines))

    MultiSlotWriter.text = text  # type: ignore[method-assign]
    blind_the_trainer()


if MUTANT == "skip-one-row":
    change_first_batch(lambda lines: lines[1:])
elif MUTANT == "train-one-twice":
    change_first_batch(lambda lines: [*lines, lines[0]])
elif MUTANT == "drop-a-part-file":
    from streamtrain.contracts.table_text import SHARD
    from streamtrain.engine import tables

    original = tables.arrange_sparse

    def arrange(raw: Any, directory: Any, *more: Any) -> None:
        original(raw, directory, *more)
        largest = max((directory / SHARD).glob("*.txt"), key=lambda p: p.stat().st_size)
        largest.unlink()

    tables.arrange_sparse = arrange
elif MUTANT == "swap-two-revisions":
    from streamtrain.connectors import ledger

    state_with = ledger._with

    def without_files(known: Any, marker: Any, timestamp: float) -> Any:
        """Revision 1 is forgotten as soon as it is there: the next one is built on revision 0."""
        state = state_with(known, marker, timestamp)
        if known is not None:
            state.files = known.files
        return state

    ledger._with = without_files
elif MUTANT == "export-wrong-weights":
    from streamtrain.contracts import table_text

    shorten = table_text.shorten

    def shorten_wrong(data: bytes, columns: Any, *pulls: Any) -> tuple[bytes, int]:
        """Each key has embed_w's sign turned: well-formed, its digests right, and wrong."""
        text, count = shorten(data, columns, *pulls)
        rows = [line.split(b" ") for line in text.splitlines()]
        return b"".join(b" ".join([r[0], b"%g" % -float(r[1]), *r[2:]]) + b"\n" for r in rows), count

    table_text.shorten = shorten_wrong
elif MUTANT in ("save-slowly", "train-while-tables-are-saved"):
    import threading

    from streamtrain.engine import running_save
    from streamtrain.training.background import Background
    from streamtrain.training.pass_step import PassStep

    # the servers are asked for the first checkpoint once the next pass is predicted, or even trained
    until = "predicted" if MUTANT == "save-slowly" else "trained"
    reached, changed, first = {"times": 0}, threading.Condition(), list[Any]()
    check_rows, save_table = PassStep._check_rows, running_save.save_table

    def check_and_tell(plan: Any, what: str, expected: int, actual: int) -> None:
        check_rows(plan, what, expected, actual)
        if what == until:
            with changed:
                reached["times"] += 1
                changed.notify_all()

    def save_late(servers: Any, table: int, directory: Any, *arguments: Any, **more: Any) -> None:
        with changed:
            first.append(directory)
            before = reached["times"]
            if directory == first[0] and not changed.wait_for(lambda: reached["times"] > before, 60):
                raise SystemExit(f"the next pass was not {until} while the tables were saved")
        save_table(servers, table, directory, *arguments, **more)

    PassStep._check_rows = staticmethod(check_and_tell)  # type: ignore[method-assign]
    running_save.save_table = save_late
    if MUTANT == "train-while-tables-are-saved":
        Background.wait_for_tables = lambda _self: None  # type: ignore[method-assign]
elif MUTANT:
    raise SystemExit(f"no such mutant: {MUTANT}")
