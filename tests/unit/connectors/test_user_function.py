"""What a user's function may return and raise: a row with exactly its values, no row, or a reject that says why."""

import decimal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamtrain.connectors.rows import RejectError, Row, RowBuilder
from streamtrain.connectors.user_function import UserParser, load_function
from streamtrain.contracts.row_layout import RowLayout
from streamtrain.errors import ConfigError, DataError

BUILDER = RowBuilder(RowLayout((2, 3)), reject_unknown=False)


def parse(result: Any) -> Row | None:
    return UserParser(BUILDER, lambda _line: result)(b"line")


def values(row: Row | None) -> tuple[int, list[int], list[int]]:
    assert row is not None
    return row.label, np.frombuffer(row.slots, "<u2").tolist(), np.frombuffer(row.feasigns, "<u8").tolist()


@pytest.mark.parametrize("label", [1, True, 1.0, np.int64(1), np.uint8(1), np.float32(1), np.bool_(True), np.array(1)])
def test_a_label_that_is_one(label: Any) -> None:
    assert values(parse((label, [2], [7]))) == (1, [2], [7])


@pytest.mark.parametrize(
    "label",
    [0.9, float("nan"), float("inf"), "1", b"1", None, [1], 2, -1, decimal.Decimal("0.5"), np.array([1, 0]), 1j],
)
def test_a_label_that_is_none(label: Any) -> None:
    with pytest.raises(RejectError, match="label"):
        parse((label, [2], [7]))


@pytest.mark.parametrize("kind", [list, tuple, iter, np.array, lambda v: np.array(v, np.uint64), lambda v: map(int, v)])
def test_columns_of_any_kind(kind: Any) -> None:
    assert values(parse((0, kind([3, 2, 9]), kind([5, 0, 1])))) == (0, [2, 3], [0, 5])


@pytest.mark.parametrize("feasign", [2**64 - 1, np.uint64(2**64 - 1), 2**53 + 1, 7.0, np.float64(2**53)])
def test_a_feasign_is_taken_exactly(feasign: Any) -> None:
    assert values(parse((0, [2], [feasign])))[2] == [int(feasign)]
    assert values(parse((0, [2], np.array([feasign]))))[2] == [int(feasign)]


BAD_FEASIGNS: list[Any] = [1.5, "7", -7, 2**64, 10**5000, None, [7], 1e19, float(2**54), float("nan"), b"7"]


@pytest.mark.parametrize("feasign", BAD_FEASIGNS, ids=lambda v: str(type(v)))
def test_a_feasign_is_not_made_fit(feasign: Any) -> None:
    with pytest.raises(RejectError, match="feasign"):
        parse((0, [2], [feasign]))
    with pytest.raises(RejectError, match="feasign"):
        parse((0, [9999], [feasign]))  # of a slot that the model lacks, too


@pytest.mark.parametrize("slot", [0, -2, 65536, 70000, 2.7, "2", None, [2]])
def test_a_slot_is_not_made_fit(slot: Any) -> None:
    with pytest.raises(RejectError, match="slot"):
        parse((0, [slot], [7]))


@pytest.mark.parametrize("column", [2, None, "23", b"23", {2: 3}, {2}, np.array([[2]])], ids=repr)
def test_a_column_that_is_no_list(column: Any) -> None:
    with pytest.raises(RejectError, match="slots are"):
        parse((0, column, [7]))


@pytest.mark.parametrize(
    "result", [(1, [2]), (1, [2], [7], 0), "abc", {1: 1, 2: 2, 3: 3}, 7, pytest.param(object(), id="object")], ids=repr
)
def test_a_result_of_another_shape(result: Any) -> None:
    with pytest.raises(RejectError, match="not \\(label, slots, feasigns\\)"):
        parse(result)
    with pytest.raises(RejectError, match="2 slots and 1 feasigns"):
        parse((1, [2, 3], [7]))


def test_none_is_no_row() -> None:
    assert parse(None) is None


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "error",
    [ValueError("odd"), AssertionError("odd"), AttributeError("odd"), RuntimeError("odd"), StopIteration("odd"),
     OSError("odd"), RecursionError("odd"), UnicodeError("odd"), SystemExit("odd"), ConfigError("odd")],
    ids=lambda e: type(e).__name__,
)  # fmt: skip
def test_whatever_it_raises_rejects_the_line(error: BaseException) -> None:
    def function(_line: bytes) -> Any:
        raise error

    with pytest.raises(RejectError, match=f"raised {type(error).__name__}: odd"):
        UserParser(BUILDER, function)(b"line")


def test_an_exception_without_text_has_its_type() -> None:
    def function(_line: bytes) -> Any:
        raise Unprintable

    with pytest.raises(RejectError, match=r"raised Unprintable$"):
        UserParser(BUILDER, function)(b"line")


def test_no_memory_says_nothing_about_the_line() -> None:
    def function(_line: bytes) -> Any:
        raise MemoryError

    with pytest.raises(DataError, match="out of memory on a line of 4 bytes, b'line'"):
        UserParser(BUILDER, function)(b"line")


def test_the_line_is_as_in_the_file() -> None:
    content = UserParser.content
    assert content(b"1\t\t\r") == b"1\t\t" and content(b"\t \t") == b"\t \t" and content(b"a\r\r") == b"a\r"
    assert content(b"\r") == content(b"") == content(b"\r\r") == b""


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [("1/0", "mine_a:parse", "ZeroDivisionError"), ("def parse(:", "mine_b:parse", "SyntaxError"),
     ("parse = 5", "mine_c:parse", "is 5, not a function"), ("", "mine_d:parse", "no attribute"),
     ("import sys; sys.exit()", "mine_e:parse", "SystemExit"), ("", "mine_none:parse", "No module named")],
)  # fmt: skip
def test_a_module_that_has_no_such_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str, message: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    if "none" not in name:
        (tmp_path / f"{name.partition(':')[0]}.py").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_function(name)
    sys.modules.pop(name.partition(":")[0], None)
