from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.connectors.absent_names import AbsentNames
from streamtrain.connectors.formats import LineParser, line_parser
from tests.support.jobs import write_config

NAMES = ("a", "b", "c")


@given(st.lists(st.sets(st.sampled_from([*NAMES, "d"])), max_size=8))
def test_names_that_no_line_had(lines: list[set[str]]) -> None:
    absent = AbsentNames(NAMES)
    absent.begin()
    for line in lines:
        absent.had(line)
    lacking = [name for name in NAMES if not any(name in line for line in lines)]
    assert absent.end("s", len(lines)) == bool(lines and lacking)
    assert absent.sentence == (
        f"none of the {len(lines)} lines of split s has {', '.join(lacking)}, which the config names"
        if lines and lacking
        else ""
    )


def test_a_name_is_reported_once_until_it_is_there_again() -> None:
    absent = AbsentNames(NAMES)

    def split(*names: str, lines: int = 1) -> tuple[bool, bool]:
        absent.begin()
        absent.had(names)
        return absent.end("s", lines), bool(absent.sentence)

    assert split("a", "b") == (True, True)
    assert split("a", "b") == (False, True)
    assert split(lines=0) == (False, True)  # an empty split says nothing
    assert split("a") == (True, True)  # b is news
    assert split(*NAMES) == (False, False)
    assert split("a", "b") == (True, True)


def test_a_split_that_is_begun_again_counts_no_line_twice() -> None:
    absent = AbsentNames(NAMES)
    absent.begin()
    absent.had(NAMES)
    absent.begin()
    absent.had(["a"])
    assert absent.end("s", 1) and absent.sentence.endswith("has b, c, which the config names")


def parser(folder: Path, **stream: Any) -> LineParser:
    config = write_config(folder, "absent", {}, stream={"job": "absent", **stream})
    return line_parser(config.line_format, config.layout)


def absent_after(parse: LineParser, *lines: bytes) -> str:
    parse.absent.begin()
    list(parse.rows(lines))
    parse.absent.end("s", len(lines))
    return parse.absent.sentence


def test_json_reports_every_field_that_is_read(tmp_path: Path) -> None:
    fields = {"usr": 2, "hour": {"slot": 3, "default": "x"}, "cross": {"slot": 4, "of": ["usr", "item"]}}
    labels = {"click": {"field": "clickd", "default": 0}}
    parse = parser(tmp_path, format="json", columns={"labels": labels, "fields": fields}, slots=[2, 3, 4])
    assert absent_after(parse, b'{"user": "u"}', b'{"hour": null}') == (
        "none of the 2 lines of split s has clickd, usr, item, which the config names"
    )
    assert absent_after(parse, b'{"usr": "u", "clickd": 1}', b'{"hour": 3, "item": ""}', b"x") == ""


def test_name_value_reports_slots_and_the_weight(tmp_path: Path) -> None:
    parse = parser(tmp_path, format="name_value", features={"user": 2, "item": 3}, weight="w")
    assert absent_after(parse, b"click:1 usr:5 3:7") == (
        "none of the 1 lines of split s has w, user, which the config names"
    )
    assert absent_after(parse, b"click:1 user:5", b"click:0 item:5 w:2") == ""


@pytest.mark.parametrize("name", ["feasign_slot", "multislot"])
def test_formats_without_names_report_nothing(tmp_path: Path, name: str) -> None:
    assert absent_after(parser(tmp_path, format=name, slots=[2, 3]), b"1:1", b"x") == ""
