"""A bridge's ledger out of the whole marker log."""

from collections.abc import Iterable

from streamtrain.connectors.ledger import Entry, Ledger
from streamtrain.schedule import Schedule


def replayed(schedule: Schedule, entries: Iterable[Entry]) -> Ledger:
    ledger = Ledger(schedule)
    for entry in entries:
        ledger.add(entry.marker, entry.timestamp)
    return ledger
