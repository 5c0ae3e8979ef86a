"""What `streamtrain recount` prints, and its exit codes."""

import json
from pathlib import Path

import pytest

from tests.support.checkpoints import write_checkpoint
from tests.support.cli import run_here
from tests.support.jobs import write_config, write_split

RIGHT = {5: (2.0, 1.0), 6: (1.0, 1.0)}


def recount(tmp_path: Path, shows: dict[int, tuple[float, float]], rows: int, *arguments: str) -> tuple[int, str]:
    """Without Kafka: the embedded one does not run."""
    config = write_config(tmp_path, "j", {})
    text = config.path.read_text().replace("kafka: {}\n", "")
    config.path.write_text(text)
    write_split(tmp_path / "data", "20240101/0000", ["1:1 5:2 6:3", "0:1 5:2"])
    write_checkpoint(tmp_path / "model", shows, rows, pass_id=1)
    done = run_here("recount", "-m", str(config.path), *arguments)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("shows", "rows", "code", "text"),
    [
        (RIGHT, 2, 0, "proven: 2 rows, 2 keys: none lost, none trained twice"),
        ({**RIGHT, 5: (3.0, 1.0)}, 2, 1, "differs: key 5, show must be 2, is 3; it occurs in 20240101/0000/part-0: 2"),
        (RIGHT, 3, 21, "the sources have 2 rows, 3 were trained"),
        ({**RIGHT, 9: (1.0, 1.0)}, 3, 21, "cannot be proven"),
    ],
)
def test_the_verdict(tmp_path: Path, shows: dict[int, tuple[float, float]], rows: int, code: int, text: str) -> None:
    found, printed = recount(tmp_path, shows, rows)
    assert found == code and text in " ".join(printed.split())
    assert "no embedded Kafka runs in" in printed


def test_the_json_keys_are_stable(tmp_path: Path) -> None:
    code, printed = recount(tmp_path, RIGHT, 2, "--json")
    of_0_2 = {
        "checkpoint", "day", "pass_id", "rows", "rejected", "keys", "occurrences", "lost", "duplicated", "missing_keys",
        "unknown_keys", "wrong_clicks", "rows_in_manifest", "shrinks", "decay", "deleted", "tolerance", "sharp",
        "undecided", "reason", "examples", "ok",
    }  # fmt: skip
    since = {
        "verdict", "rows_in_markers", "lost_rows", "duplicated_rows", "uneven", "pending_rows", "pending",
        "not_recountable_rows", "not_recountable_files", "not_recountable", "not_recountable_keys", "unknown",
        "marker_log", "places", "tables",
    }  # fmt: skip
    assert code == 0 and set(json.loads(printed)) == of_0_2 | since
