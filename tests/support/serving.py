"""Exported models, rows for them, what numpy predicts of these."""

from pathlib import Path

import numpy as np

from streamtrain.serving.predictor import Predictor
from tests.support.exports import Exports, vectors
from tests.support.networks import Network

DAY, NEXT = "20240101", "20240102"
KEYS = range(1, 201)


def lines(count: int, seed: int = 0) -> list[str]:
    """Known, unknown, deleted keys and key 0; empty slots, several feasigns a slot, a slot that no model has."""
    source = np.random.default_rng(seed)
    found = ["", "0:1", "7:2", "0:2 0:3 5:3", "9999999:2 18446744073709551615:4", "5:77 6:2"]
    while len(found) < count:
        pairs = zip(source.integers(0, 260, 12).tolist(), source.integers(2, 6, 12).tolist(), strict=True)
        found.append(" ".join(f"{k}:{s}" for k, s in [(1, 1), *pairs][: source.integers(1, 13)]))
    return found[:count]


def small_base(exports: Exports, networks: list[Network]) -> list[str]:
    """A full model and two incremental ones over it."""
    return [
        exports.full(DAY, 0, vectors(KEYS, 1), networks[0]),
        exports.incremental(DAY, 1, vectors(range(150, 230), 2), networks[1], deleted=range(10, 20)),
        exports.incremental(DAY, 2, vectors([3, 15, 240], 3), networks[2], deleted=[4, 5, 160]),
    ]


def check(predictor: Predictor, exports: Exports, digest: str, count: int = 60) -> None:
    predictions, version = predictor.answer(lines(count))
    assert version.digest == digest
    np.testing.assert_allclose(predictions, exports.expected(digest, lines(count)), atol=2e-6)


def flip(path: Path, at: int = -5) -> bytes:
    """Changes one byte; returns the file as it was."""
    data = path.read_bytes()
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[len(data) + at + 1 :])
    return data
