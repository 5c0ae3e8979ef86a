"""The job of tests/support/everything: its config, rows in its layout, and what each of its tables must have."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import yaml

from streamtrain.config import JobConfig, load_config
from streamtrain.contracts.network import Network
from streamtrain.contracts.row_layout import RowLayout
from streamtrain.contracts.sample import SampleDecoder, encode_values
from streamtrain.feed.multislot import MultiSlotWriter
from tests.support.cli import run
from tests.support.jobs import write_config, write_split
from tests.support.paths import TESTS

MODEL = TESTS / "support" / "everything"
FEATURES = {"user_id": 2, "item_id": 3, "last_items": 4, "tags": 5}
#: Slots that each table is read by, and the label that is its click; as the network in MODEL has them.
TABLES = {"a_liked": ((2,), "like"), "counted": ((4, 5), "click"), "deep": ((2, 3, 5), "click"), "wide": ((2, 5), "")}
WIDTHS = {"a_liked": 2, "counted": 7, "deep": 5, "wide": 3}
VOCABULARY = 40


@dataclass(frozen=True)
class RichRow:
    """slots: feasigns by number."""

    labels: dict[str, float]
    price: list[float]
    age: float
    weight: float
    slots: dict[int, list[int]]

    def line(self) -> str:
        """As it stands in a file: JSON."""
        values = {**self.labels, "price": self.price, "age": self.age, "importance": self.weight}
        return orjson.dumps({**values, **{name: self.slots[slot] for name, slot in FEATURES.items()}}).decode()


def rich_rows(count: int, seed: int = 0) -> list[RichRow]:
    source = random.Random(seed)
    found = []
    for _ in range(count):
        lengths = {2: 1, 3: source.randint(0, 1), 4: source.randint(0, 5), 5: source.randint(0, 3)}
        slots = {
            slot: [slot * 1000 + source.randrange(VOCABULARY) + 1 for _ in range(n)] for slot, n in lengths.items()
        }
        click = int(sum(slots[5]) % 3 == 0)
        labels = {"click": click, "like": int(click and slots[2][0] % 2), "dwell": round(source.gauss(2, 1), 3)}
        price = [round(source.gauss(0, 1), 4) for _ in range(3)]
        found.append(RichRow(labels, price, round(source.random(), 4), source.choice([0.5, 1.0, 2.0]), slots))
    return found


def message_of(row: RichRow, layout: RowLayout, file: int, line: int) -> bytes:
    pairs = [(slot, feasign) for slot in sorted(row.slots) for feasign in row.slots[slot]]
    labels = np.array([row.labels[label.name] for label in layout.labels], "<f4").tobytes()
    floats = {"price": row.price, "age": [row.age]}
    dense = np.array([value for each in layout.dense for value in floats[each.name]], "<f4").tobytes()
    slots, feasigns = np.array([slot for slot, _ in pairs], "<u2"), np.array([key for _, key in pairs], "<u8")
    label = int(row.labels["click"])
    return encode_values(label, file, line, slots.tobytes(), feasigns.tobytes(), labels, dense, row.weight)


def text_of(rows: list[RichRow], network: Network, layout: RowLayout) -> bytes:
    """As the feed gives them to Paddle."""
    batch = SampleDecoder(layout=layout).decode([message_of(row, layout, 0, n) for n, row in enumerate(rows, 1)])
    return MultiSlotWriter(network.feeds, layout).text(batch)


def publish(config: JobConfig, splits: list[list[RichRow]]) -> None:
    """Writes the rows as files, and bridges them."""
    for number, rows in enumerate(splits):
        write_split(Path(config.data_dir), config.schedule.split(number).path, [row.line() for row in rows])
    done = run("bridge", "-m", str(config.path))
    assert done.returncode == 0, done.stdout + done.stderr


def write_everything(folder: Path, job: str, kafka: dict[str, str], **changes: Any) -> JobConfig:
    """changes: section=dict, merged over what the config in MODEL says of rows, tables and network."""
    theirs = yaml.safe_load((MODEL / "config_online.yaml").read_text())
    of_rows = {key: value for key, value in theirs["stream"].items() if key not in ("job", "partitions")}
    needed: dict[str, dict[str, Any]] = {
        "runner": {"model_dir": str(MODEL), "train_batch_size": theirs["runner"]["train_batch_size"]},
        "stream": {**of_rows, "inference_model": "none"},
    }
    for section, values in changes.items():
        needed[section] = {**needed.get(section, {}), **values}
    path = write_config(folder, job, kafka, **needed).path
    values = yaml.safe_load(path.read_text())
    for section in ("hyper_parameters", "table_parameters"):
        values[section] = theirs[section]
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return load_config(path)


def expected(rows: list[RichRow]) -> dict[str, tuple[Counter[int], Counter[int]]]:
    """Show and click of each table's keys."""
    found = {}
    for name, (slots, label) in TABLES.items():
        shows, clicks = Counter[int](), Counter[int]()
        for row in rows:
            for slot in slots:
                shows.update(row.slots[slot])
                if label and row.labels[label]:
                    clicks.update(row.slots[slot])
        found[name] = (shows, clicks)
    return found


def counted_in(checkpoint: Path) -> dict[str, tuple[Counter[int], Counter[int]]]:
    """The same as a checkpoint has it, read by columns alone."""
    found = {}
    for name in TABLES:
        shows, clicks = Counter[int](), Counter[int]()
        for part in (checkpoint / f"{name}.shard").glob("part-*.txt"):
            for line in part.read_text().splitlines():
                key, _, _, _, show, click = line.split()[:6]
                shows[int(key)] = int(float(show))
                if float(click):
                    clicks[int(key)] = int(float(click))
        found[name] = (shows, clicks)
    return found
