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
