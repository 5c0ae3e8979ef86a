"""The models of a chain, one over the other, as the tables of one model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streamtrain.contracts.served_network import ServedNetwork, sparse_directory
from streamtrain.serving.bundle import Bundle
from streamtrain.serving.table import Patches, Table


@dataclass(frozen=True)
class Built:
    """A chain put together. digests: of its models; tables: by their directory; bundle: of its last model."""

    digests: tuple[str, ...]
    tables: Mapping[str, Table]
    bundle: Bundle


class Stack:
    """Models added one over the other, upon tables that contain the first ones already, or upon nothing."""

    def __init__(
        self, digests: tuple[str, ...] = (), tables: Mapping[str, Table] | None = None, bundle: Bundle | None = None
    ) -> None:
        self.digests = digests
        self._tables = dict(tables) if tables is not None else None
        self._bundle = bundle
        self._patches = _no_patches(self._tables or {})

    def add(self, bundle: Bundle) -> None:
        """Raises ValueError saying why the model cannot be added; the stack is then as it was."""
        manifest = bundle.manifest
        if manifest.kind == "full":
            if self.digests:
                raise ValueError("it is a full model, which patches no other")
            self._tables = {name: Table.of(own.keys, own.values) for name, own in bundle.tables.items()}
            self._patches = _no_patches(self._tables)
        else:
            previous = manifest.previous.digest if manifest.previous else None
            if previous != (self.digests[-1] if self.digests else None):
                raise ValueError("its manifest says that it patches another model than the donefile does")
            if self._tables is None:
                self._tables = {name: Table.empty(width) for name, width in _widths(bundle.network).items()}
                self._patches = _no_patches(self._tables)
            if self._patches.keys() != bundle.tables.keys():
                raise ValueError(f"it has {' '.join(bundle.tables)}, the model below {' '.join(self._patches)}")
            patches = {name: patch.copy() for name, patch in self._patches.items()}
            for name, own in bundle.tables.items():
                patches[name].add(own.keys, own.values, own.deleted)
            self._patches = patches
        self.digests = (*self.digests, bundle.digest)
        self._bundle = bundle

    def built(self) -> Built | None:
        """The models added so far; None when there is none, or the last one's own files are not known."""
        if self._tables is None or self._bundle is None:
            return None
        self._tables = {name: self._patches[name].over(table) for name, table in self._tables.items()}
        self._patches = _no_patches(self._tables)
        return Built(self.digests, self._tables, self._bundle)


def _no_patches(tables: Mapping[str, Table]) -> dict[str, Patches]:
    return {name: Patches(table.width) for name, table in tables.items()}


def _widths(network: ServedNetwork) -> dict[str, int]:
    return {sparse_directory(name, len(network.tables)): shape.width for name, shape in network.tables.items()}
