"""Predicts with what lies below model_save_path, in numpy, from docs/models.md alone: no Paddle, nothing of ours."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.models_reader import Model, overlay

FLOAT32 = 5


def read_tensor(data: bytes, at: int = 0) -> tuple[np.ndarray, int]:
    """(the float32 tensor that begins at `at`, where it ends), as "A dense parameter's bytes" has it."""
    version, levels = struct.unpack_from("<IQ", data, at)
    assert version == 0
    at += 12
    for _ in range(levels):
        (size,) = struct.unpack_from("<Q", data, at)
        at += 8 + size
    version, size = struct.unpack_from("<Ii", data, at)
    assert version == 0
    kind, shape = _tensor_desc(data[at + 8 : at + 8 + size])
    assert kind == FLOAT32
    at += 8 + size
    end = at + 4 * int(np.prod(shape))
    assert end <= len(data)
    return np.frombuffer(data[at:end], "<f4").reshape(shape), end


def _tensor_desc(message: bytes) -> tuple[int, list[int]]:
    """(field 1, every field 2), all of them varints."""
    kind, shape, at = 0, [], 0
    while at < len(message):
        tag, value = message[at], 0
        at += 1
        for shift in range(0, 70, 7):
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        assert tag in (0x08, 0x10)
        if tag == 0x08:
            kind = value
        else:
            shape.append(value)
    return kind, shape


def read_dense(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    """A file a parameter, by name; nothing may follow the tensor."""
    found = {}
    for name in names:
        data = (folder / name).read_bytes()
        found[name], end = read_tensor(data)
        assert end == len(data), name
    return found


def read_params(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """__params__: the same tensors one behind the other, by name."""
    data, at, found = path.read_bytes(), 0, {}
    for name in sorted(names):
        found[name], at = read_tensor(data, at)
    assert at == len(data)
    return found


def read_row(text: str) -> tuple[int, list[tuple[int, int]]]:
    """(label, [(feasign, slot)]) of a `feasign:slot` line."""
    pairs = [(int(feasign), int(slot)) for feasign, _, slot in (p.partition(":") for p in text.split())]
    return next(f for f, s in pairs if s == 1), [(f, s) for f, s in pairs if s != 1]


@dataclass
class SlotDNN:
    """The slot_dnn of one pass: key -> vector, the dense parameters, slots in order."""

    table: dict[int, np.ndarray]
    dense: dict[str, np.ndarray]
    slots: list[int]
    manifest: dict[str, Any]

    @classmethod
    def of(cls, root: Path, base: Model, incremental: list[Model]) -> "SlotDNN":
        """The base with the incremental ones over it; network and dense parameters are the last one's."""
        last = (incremental or [base])[-1]
        keys = overlay(base, incremental)
        manifest = last.manifest
        folder = root / last.line["path"] / "dense"
        assert sorted(p.name for p in folder.iterdir()) == sorted([*manifest["dense"], "__params__"])
        dense = read_dense(folder, manifest["dense"])
        together = read_params(folder / "__params__", manifest["dense"])
        assert all(np.array_equal(together[name], value) for name, value in dense.items())
        table = {key: np.array(text.split(" "), np.float64) for key, text in keys.items()}
        return cls(table, dense, [feed["slot"] for feed in manifest["feeds"]], manifest)

    def all_vars(self, rows: list[list[tuple[int, int]]]) -> list[np.ndarray]:
        """Sums a slot, their concatenation, each layer, the prediction: [rows, n] each, in the order of the model's
        all_vars."""
        width = self.manifest["width"]
        pooled = np.zeros((len(self.slots), len(rows), width))
        place = {slot: index for index, slot in enumerate(self.slots)}
        for number, row in enumerate(rows):
            for feasign, slot in row:
                if feasign and slot in place and feasign in self.table:
                    pooled[place[slot], number] += self.table[feasign]
        found = [*pooled, np.concatenate(pooled, axis=1)]
        layers = sorted(
            (n[:-2] for n in self.dense if n.startswith("fc_") and n.endswith(".w")), key=lambda n: int(n[3:])
        )
        for name in layers:
            found.append(np.maximum(found[-1] @ self.dense[f"{name}.w"] + self.dense[f"{name}.b"], 0))
        found.append(found[-1] @ self.dense["out.w"] + self.dense["out.b"])
        found.append(1 / (1 + np.exp(-np.clip(found[-1], -15, 15))))
        return found

    def predict(self, rows: list[list[tuple[int, int]]]) -> np.ndarray:
        """[rows]"""
        return self.all_vars(rows)[-1][:, 0]
