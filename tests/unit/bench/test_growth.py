"""Costs against growth: the table, the picture, the rows that fill a table."""

from pathlib import Path

from bench.growth import FEATURES, SLOTS, Growth, _fresh_row, markdown, plot

FOUND = [
    Growth("workers", "rows/s", [1, 2], {"predict and train": [1000.0, 1800.0]}),
    Growth("keys", "s", [1e5, 1e7], {"a save": [0.5, 40.0]}),
]


def test_the_table_and_the_picture(tmp_path: Path) -> None:
    text = markdown(FOUND)
    assert "| workers | 1 | 2 |\n|---|---|---|\n| predict and train, rows/s | 1,000 | 1,800 |" in text
    assert "| keys | 100,000 | 10,000,000 |" in text
    plot(FOUND, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_a_fresh_row_has_each_key_once() -> None:
    numbers = [int(word) for word in _fresh_row(1000).split()]
    feeds, at = [], 0
    while at < len(numbers):
        feeds.append(numbers[at + 1 : at + 1 + numbers[at]])
        at += 1 + numbers[at]
    assert len(feeds) == 2 + SLOTS and feeds[0] == [1]
    assert sorted(key for feed in feeds[2:] for key in feed) == list(range(1000, 1000 + FEATURES))
