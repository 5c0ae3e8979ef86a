"""Figures of several runs as a table: the median, and the least and greatest."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streamtrain import __version__
from streamtrain.processes import processors


@dataclass(frozen=True)
class Figure:
    """One figure of all runs, in their order."""

    name: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "unit": self.unit, "median": self.median, "values": list(self.values)}

    def row(self) -> str:
        low, high = min(self.values), max(self.values)
        return f"| {self.name} | {number(self.median)} | {number(low)} to {number(high)} | {self.unit} |"


def number(value: float) -> str:
    """Three digits, whole ones from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ratio(name: str, above: Sequence[float], below: Sequence[float]) -> Figure:
    """Of runs that were made one after the other."""
    return Figure(name, "x", [a / b for a, b in zip(above, below, strict=True)])


def machine() -> dict[str, Any]:
    model = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    return {"processor": model, "processors": processors(), "system": platform.platform(), "version": __version__}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def write(path: Path, title: str, figures: Sequence[Figure], more: Mapping[str, Any], of: str = "") -> str:
    """path, without suffix: .md and .json are written. of: what the values are of, several runs by default. Returns the
    Markdown."""
    where = machine()
    text = "\n".join(
        [
            f"# {title}", "",
            f"streamtrain {where['version']}, {where['processors']} processors ({where['processor']}), "
            f"{of or f'{len(figures[0].values)} run(s) of each in turns'}.", "",
            "| figure | median | least to greatest | |", "|---|---|---|---|", *(figure.row() for figure in figures), "",
        ]
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".md").write_text(text)
    document = {"machine": where, **more, "figures": [figure.to_json() for figure in figures]}
    path.with_suffix(".json").write_text(json.dumps(document, indent=2) + "\n")
    return text
