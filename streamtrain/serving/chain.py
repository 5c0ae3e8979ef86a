"""The models of a chain, one over the other, as one table."""

from __future__ import annotations

from dataclasses import dataclass

from streamtrain.serving.bundle import Bundle
from streamtrain.serving.table import Patches, Table


@dataclass(frozen=True)
class Built:
    """A chain put together. digests: those of its models; bundle: that of its last model."""

    digests: tuple[str, ...]
    table: Table
    bundle: Bundle


class Stack:
    """Models added one over the other, upon a table that contains the first ones already, or upon nothing."""

    def __init__(self, digests: tuple[str, ...] = (), table: Table | None = None, bundle: Bundle | None = None) -> None:
        self.digests = digests
        self._table = table
        self._bundle = bundle
        self._patches = Patches(table.width) if table else None

    def add(self, bundle: Bundle) -> None:
        """Raises ValueError saying why the model cannot be added; the stack is then as it was."""
        manifest = bundle.manifest
        if manifest.kind == "full":
            if self.digests:
                raise ValueError("it is a full model, which patches no other")
            self._table = Table.of(bundle.keys, bundle.values)
            self._patches = Patches(manifest.width)
        else:
            previous = manifest.previous.digest if manifest.previous else None
            if previous != (self.digests[-1] if self.digests else None):
                raise ValueError("its manifest says that it patches another model than the donefile does")
            if self._patches is None:
                self._table, self._patches = Table.empty(manifest.width), Patches(manifest.width)
            self._patches.add(bundle.keys, bundle.values, bundle.deleted)
        self.digests = (*self.digests, bundle.digest)
        self._bundle = bundle

    def built(self) -> Built | None:
        """The models added so far; None when there is none, or the last one's own files are not known."""
        if self._table is None or self._patches is None or self._bundle is None:
            return None
        self._table = self._patches.over(self._table)
        self._patches = Patches(self._table.width)
        return Built(self.digests, self._table, self._bundle)
