"""Numbers that no working model has are named: parameter, key, column."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamtrain.contracts.table_text import TableColumns
from streamtrain.engine.soundness import LIMIT, check_dense, find_unsound, pull_sound, unsound_key
from streamtrain.errors import BadModel

COLUMNS = TableColumns(2).names
LINE = b"3004 3 0 2.2 4 2 -0.5 1.5e-05 0.5 9.9e+14 12"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2e15, -1e36])
def test_a_dense_parameter(value: float) -> None:
    values = np.zeros((3, 2), np.float32)
    check_dense("fc_0.w", values)
    values[1, 1] = value
    with pytest.raises(BadModel, match=r"fc_0\.w has .* \(of 6\)"):
        check_dense("fc_0.w", values)


def test_values_that_are_unsound_twice_are_the_models(caplog: pytest.LogCaptureFixture) -> None:
    bad, good = {"fc_0.b": np.array([1, 5e36], np.float32)}, {"fc_0.b": np.array([1, 2], np.float32)}
    pulled = iter([good, bad, good, bad, bad])
    assert pull_sound(lambda: next(pulled)) is good
    assert not caplog.records
    assert pull_sound(lambda: next(pulled)) is good
    assert "fc_0.b has a value of 5e+36 (of 2) as it came from the servers" in caplog.text
    with pytest.raises(BadModel, match=r"fc_0\.b"):
        pull_sound(lambda: next(pulled))


def test_what_is_no_float_or_empty_is_not_looked_at() -> None:
    check_dense("count", np.array([2**62]))
    check_dense("none", np.zeros(0, np.float32))


@pytest.mark.parametrize(
    ("column", "value"),
    [("embed_w", b"nan"), ("embed_g2sum", b"-nan"), ("embedx_1", b"inf"), ("embedx_0", b"1.05e+37"), ("show", b"-inf"),
     ("embedx_g2sum", b"3e+15"), ("embed_w", b"1e+100")],
)  # fmt: skip
def test_a_key(column: str, value: bytes) -> None:
    values = LINE.split()
    values[COLUMNS.index(column)] = value
    bad = b" ".join(values)
    block = LINE + b"\n" + bad + b"\n" + LINE
    assert find_unsound(block) == bad and find_unsound(LINE + b"\n" + bad) == bad
    message = str(unsound_key(bad, COLUMNS))
    assert f"key 3004 has {column} {value.decode()}" in message and "Lower the learning rates" in message


@given(st.lists(st.floats(-float(LIMIT) / 2, float(LIMIT) / 2), min_size=1))
def test_sound_numbers_pass(values: list[float]) -> None:
    assert find_unsound(b" ".join(b"%g" % v for v in values) + b"\n") is None
