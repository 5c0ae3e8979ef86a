"""docs/rows.md: each of its examples is what happens."""

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from streamtrain.config import JobConfig
from streamtrain.config.columns import LabelOf, NumberOf, SlotOf
from streamtrain.connectors.formats import LineParser, line_parser
from streamtrain.connectors.rows import RejectError, Row
from streamtrain.contracts.hashing import feasign_of
from streamtrain.contracts.user_row import Row as UserRow
from streamtrain.errors import ConfigError
from tests.support.jobs import write_config
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "rows.md").read_text()
BLOCKS = re.findall(r"^```(yaml|text|python)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COMMON = yaml.safe_load(BLOCKS[0][1])["stream"]


def examples() -> list[tuple[str, list[str]]]:
    """(yaml, the texts that follow it)."""
    found: list[tuple[str, list[str]]] = []
    for kind, text in BLOCKS[1:]:
        if kind == "yaml":
            found.append((text, []))
        elif kind == "text":
            found[-1][1].append(text.rstrip("\n"))
    return found


EXAMPLES = examples()


def config_of(folder: Path, text: str) -> JobConfig:
    stream = {**COMMON, "job": "page", **yaml.safe_load(text)["stream"]}
    return write_config(folder, "page", {}, stream={key: value for key, value in stream.items() if value is not None})


def shown(row: Row, config: JobConfig) -> str:
    """As the page writes a row."""

    def floats(packed: bytes) -> list[str]:
        return [f"{value:g}" for value in np.frombuffer(packed, "<f4").tolist()]

    layout = config.layout
    labels = [f"{label.name} {value}" for label, value in zip(layout.labels, floats(row.labels), strict=True)]
    dense = [f"{of.name} {' '.join(floats(row.dense)[of.begin : of.end])}" for of in layout.dense]
    slots: dict[int, list[str]] = {}
    pairs = zip(np.frombuffer(row.slots, "<u2").tolist(), np.frombuffer(row.feasigns, "<u8").tolist(), strict=True)
    for slot, feasign in pairs:
        slots.setdefault(slot, []).append(str(feasign))
    parts = [", ".join(labels), ", ".join(dense), f"{layout.weight} {row.weight:g}"]
    return "; ".join([*parts, *(f"{slot}: {' '.join(values)}" for slot, values in slots.items())])


def expected(text: str) -> str:
    """The page's row with its hashes computed."""
    return re.sub(r'"([^"]*)"@([0-9]+)', lambda m: str(feasign_of(m[1].replace(r"\x1f", "\x1f"), int(m[2]))), text)


def rows_of(parse: LineParser, lines: list[str]) -> list[Any]:
    if parse.begin("page", lines[0].encode()):
        lines = lines[1:]
    return [parse(parse.content(line.encode())) for line in lines]


def test_the_page_has_its_examples() -> None:
    formats = [yaml.safe_load(text)["stream"]["format"] for text, _ in EXAMPLES]
    assert formats == ["name_value", "multislot", "multislot", "csv", "tsv", "json", "json"]


@pytest.mark.parametrize(("text", "blocks"), [e for e in EXAMPLES if len(e[1]) == 2])
def test_an_example(tmp_path: Path, text: str, blocks: list[str]) -> None:
    config = config_of(tmp_path, text)
    (row,) = rows_of(line_parser(config.line_format, config.layout), blocks[0].splitlines())
    assert shown(row, config) == expected(blocks[1])


def test_the_example_that_is_refused(tmp_path: Path) -> None:
    ((text, (line,)),) = [e for e in EXAMPLES if len(e[1]) == 1]
    with pytest.raises(ConfigError, match=r"stream\.header: it has no w, which stream\.columns names"):
        config_of(tmp_path, text)
    config = config_of(tmp_path, text.replace("price, x, y]", "price, x, y, w]"))
    (row,) = rows_of(line_parser(config.line_format, config.layout), [f"{line}\t"])
    assert shown(row, config).startswith("click 1, dwell 3.5; price 0.99, vec 0.5 -1; w 1")


def test_the_functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "\n".join(text for kind, text in BLOCKS if kind == "python")
    (tmp_path / "page_functions.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    lines = ['{"clicked": 1, "seconds": 3.5, "user": 12, "price": 0.99}', '{"clicked": 1}']
    for name in ("parse", "parse_many"):
        config = config_of(tmp_path, f"stream: {{format: 'page_functions:{name}'}}")
        parse = line_parser(config.line_format, config.layout)
        (row,) = rows_of(parse, lines[:1])
        assert shown(row, config) == "click 1, dwell 3.5; price 0.99, vec 0.5 -1; w 1; 2: 12; 3: 5 6"
        row, reject = parse.rows([line.encode() for line in lines])
        assert isinstance(row, Row) and isinstance(reject, RejectError) and "KeyError" in str(reject)
    del sys.modules["page_functions"]


@pytest.mark.parametrize(("head", "model"), [("labels", LabelOf), ("dense, weight", NumberOf), ("fields", SlotOf)])
def test_every_key_of_columns_is_on_the_page(head: str, model: Any) -> None:
    part = PAGE.partition(f"### {head}\n")[2].partition("\n##")[0]
    for name, field in model.model_fields.items():
        assert f"`{field.alias or name}`" in part, name


def test_every_field_of_a_row_is_on_the_page() -> None:
    part = PAGE.partition("## A function of yours")[2]
    assert [name for name in UserRow.__dataclass_fields__ if f"`{name}`" not in part] == []
