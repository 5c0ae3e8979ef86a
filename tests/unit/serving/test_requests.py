"""The body of a request: what is taken, and what is refused with its reason."""

import pytest

from streamtrain.serving.limits import Limits
from streamtrain.serving.requests import Refused, read_rows


def test_rows_come_as_they_were_sent() -> None:
    assert read_rows(b'{"rows": ["7:2 12:3", "rows"]}', Limits()) == ["7:2 12:3", "rows"]


def test_a_key_that_is_given_twice_is_refused() -> None:
    """One of the two would be left out."""
    with pytest.raises(Refused, match="the key 'rows' is given twice") as refused:
        read_rows(b'{"rows": ["7:2"], "rows": []}', Limits())
    assert refused.value.status == 422


def test_rows_by_name_come_as_they_were_sent() -> None:
    body = b'{"rows": [{"user": [1, 2], "price": 0.5}, "7:2", {}]}'
    assert read_rows(body, Limits()) == [{"user": [1, 2], "price": 0.5}, "7:2", {}]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"a": [1, 2, 3], "b": [0.5, 0.5]}', "row 2 has 5 features, at most 4 are taken"),  # floats count too
        (b'{"a": 1, "b": 2, "c": 3, "d": 4, "e": null}', "row 2 has 5 features"),
        (b'"{\\"a\\": [1, 2, 3, 4, 5]}"', "row 2 has 5 features"),  # an object as text
        (b'"1:2 1:2 1:2 1:2 1:2"', "row 2 has 5 features"),
        (b"7", "row 2 is neither a text nor an object"),
        (b"[1]", "row 2 is neither a text nor an object"),
        (b"null", "row 2 is neither a text nor an object"),
    ],
)
def test_rows_that_are_too_much_or_of_another_form(row: bytes, reason: str) -> None:
    with pytest.raises(Refused, match=reason) as refused:
        read_rows(b'{"rows": [{"a": [1, 2], "b": 1}, ' + row + b"]}", Limits(features=4))
    assert refused.value.status == 422
