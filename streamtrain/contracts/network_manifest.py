"""The manifest of an inference model whose network is more than numbered slots of one table and one prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from pydantic import Field, TypeAdapter

from streamtrain.contracts import json_codec
from streamtrain.contracts.inference_models import FORMAT, WHAT, CommonManifest, ModelManifest, TableKeys
from streamtrain.contracts.json_codec import UnknownFormatError
from streamtrain.contracts.served_network import (
    MAX_WIDTH,
    Constant,
    DenseFeed,
    ServedNetwork,
    SlotFeed,
    TableShape,
    TargetVariable,
    sparse_directory,
)

NETWORK_FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class TableEntry(TableKeys):
    """A table of a NetworkManifest. width, pulls: of TableShape. thresholds: None: all keys."""

    width: Annotated[int, Field(ge=1, le=MAX_WIDTH)]
    pulls: tuple[str, ...]
    thresholds: dict[str, float] | None = None


@dataclass(frozen=True, kw_only=True)
class NetworkManifest(CommonManifest):
    """Of any other network. tables: by name; keys and deleted are their sums."""

    feeds: tuple[SlotFeed, ...]
    dense_feeds: tuple[DenseFeed, ...] = ()
    constants: tuple[Constant, ...] = ()
    tables: Annotated[dict[str, TableEntry], Field(min_length=1)]
    targets: Annotated[tuple[TargetVariable, ...], Field(min_length=1)]
    format: int = NETWORK_FORMAT

    def __post_init__(self) -> None:
        _ = self.network
        for key in ("keys", "deleted"):
            if getattr(self, key) != (total := sum(getattr(entry, key) for entry in self.tables.values())):
                raise ValueError(f"{key} is {getattr(self, key)}, its tables have {total}")

    @property
    def network(self) -> ServedNetwork:
        """Raises ValueError for names that do not belong together."""
        shapes = {name: TableShape(entry.width, entry.pulls) for name, entry in self.tables.items()}
        return ServedNetwork(self.feeds, shapes, self.targets, self.dense_feeds, self.constants)

    @property
    def directories(self) -> dict[str, TableKeys]:
        """The tables by the directory of their files."""
        return {
            sparse_directory(name, len(self.tables)): TableKeys(entry.keys, entry.deleted)
            for name, entry in self.tables.items()
        }


AnyManifest: TypeAlias = ModelManifest | NetworkManifest
_NETWORK_MANIFEST = TypeAdapter(NetworkManifest)


def decode_manifest(data: bytes) -> AnyManifest:
    """Of either format. Raises UnknownFormatError for another one, ValueError when it is damaged."""
    version = json_codec.decode_object(data, WHAT).get("format", FORMAT)
    if version == NETWORK_FORMAT and not isinstance(version, bool):
        return json_codec.decode(_NETWORK_MANIFEST, data, WHAT, format=NETWORK_FORMAT)
    if version != FORMAT or isinstance(version, bool):
        known = f"{FORMAT} and {NETWORK_FORMAT}"
        raise UnknownFormatError(f"its format is {version!r}, this version reads {known}: a newer version wrote it")
    return ModelManifest.decode(data)
