"""What is said of a line that is not JSON."""

from pathlib import Path

import pytest

from streamtrain.connectors.formats import line_parser
from streamtrain.connectors.rows import RejectError
from tests.support.value_rows import value_config


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"dwell": NaN}', "it is not JSON: dwell is NaN; write null, or leave the key out$"),
        (b'{"vec": [0.5, -Infinity], "w": NaN}', "it is not JSON: vec is -Infinity; "),
        (b'{"a": {"b": NaN}}', "it is not JSON: b is NaN; "),
        (b"NaN", "it is not JSON: unexpected"),
        (b'{"dwell": NaN', "it is not JSON: unexpected"),
        (b"[" * 100_000, "it is not JSON: "),
        (b'{"dwell": "\xff"}', "it is not JSON: "),
        (b"[]", "it is a JSON list, not an object"),
    ],
)
def test_what_is_no_row(tmp_path: Path, line: bytes, reason: str) -> None:
    config = value_config(tmp_path, "json")
    parse = line_parser(config.line_format, config.layout)
    with pytest.raises(RejectError, match=reason):
        parse(line)
