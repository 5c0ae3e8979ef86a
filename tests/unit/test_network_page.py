"""docs/network.md has the network of tests/jobs/test_any_network.py, its config, and a row that goes with them."""

import re
from pathlib import Path

import numpy as np

from streamtrain.config import load_config
from streamtrain.connectors.formats import line_parser
from streamtrain.connectors.rows import Row
from tests.support.everything_job import MODEL
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "network.md").read_text()


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def test_the_network_and_its_config_are_those_of_the_test() -> None:
    assert block("python") == (MODEL / "static_model.py").read_text()
    assert block("yaml") == (MODEL / "config_online.yaml").read_text()


def test_the_row_is_one_of_that_config(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    path = tmp_path / "config_online.yaml"
    path.write_text(block("yaml"))
    config = load_config(path)
    (row,) = line_parser(config.line_format, config.layout).rows([block("json").rstrip("\n").encode()])
    assert isinstance(row, Row)
    assert np.frombuffer(row.slots, "<u2").tolist() == [2, 4, 4, 4, 5, 5]
    assert np.frombuffer(row.labels, "<f4").size == 3 and np.frombuffer(row.dense, "<f4").size == 4 and row.weight == 2
