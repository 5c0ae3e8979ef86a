"""MovieLens-100K as a tree of logs: real clicks with real times, for the demo and the tests of quality.

The ratings come inside the wheel of recbole 1.2.1 (MIT): pip fetches it, whatever index pip is set up for.
A rating of 4 or 5 stars is a click. A row's features are attributes of its user and its item, and crosses
of the two: all known before the rating is.
"""

from __future__ import annotations

import csv
import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import product
from pathlib import Path
from typing import TypeAlias

from streamtrain.errors import ConfigError, DataError

PACKAGE = "recbole==1.2.1"
FOLDER = "recbole/dataset_example/ml-100k"
RATINGS, USERS, ITEMS = "ml-100k.inter", "ml-100k.user", "ml-100k.item"
CLICK_FROM = 4
LABEL_SLOT = 1
MINUTES_A_DAY = 1440

#: A user or item by attribute; an attribute may have several values (genres) or none.
Attributes: TypeAlias = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Slot:
    """A slot of the rows: its number, and the attributes whose values, crossed, are its features."""

    number: int
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        return " x ".join(self.names)

    def values(self, attributes: Attributes) -> list[str]:
        return [" ".join(parts) for parts in product(*(attributes[name] for name in self.names))]


#: Slot 1 is the label. `age` and `decade` are tens of years.
SLOTS: tuple[Slot, ...] = tuple(
    Slot(number, names)
    for number, names in enumerate(
        (
            ("user",),
            ("item",),
            ("age",),
            ("gender",),
            ("occupation",),
            ("year",),
            ("genre",),
            ("gender", "item"),
            ("age", "item"),
            ("occupation", "item"),
            ("user", "genre"),
            ("gender", "decade"),
            ("occupation", "genre"),
            ("age", "decade"),
        ),
        start=2,
    )
)


@dataclass(frozen=True)
class Rating:
    """A row of the ratings; `time` in seconds since 1970, UTC."""

    time: int
    user: int
    item: int
    stars: int

    @property
    def click(self) -> int:
        return int(self.stars >= CLICK_FROM)


@dataclass(frozen=True)
class TreeSummary:
    """What write_tree wrote: days inclusive as YYYYMMDD, `days` calendar days, rows."""

    first_day: str
    last_day: str
    days: int
    rows: int


def feasign_lines(
    ratings: Iterable[Rating], users: Mapping[int, Attributes], items: Mapping[int, Attributes]
) -> Iterator[str]:
    """A line a rating, `feasign:slot ..`: the label and SLOTS."""
    keys = _Keys()
    return (_line(rating, users[rating.user] | items[rating.item], keys) for rating in ratings)


#: Makes a line of each rating, in their order, which is that of time; with attributes of users and items.
Lines: TypeAlias = Callable[[Sequence[Rating], Mapping[int, Attributes], Mapping[int, Attributes]], Iterator[str]]


def fetch(cache_dir: Path) -> Path:
    """The folder of the three ML-100K files below `cache_dir`, downloaded (2 MB) unless it is there.

    Raises DataError when pip cannot download it or the wheel has them not.
    """
    folder = cache_dir / FOLDER
    if all((folder / name).is_file() for name in (RATINGS, USERS, ITEMS)):
        return folder
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, PACKAGE]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        wheels = sorted(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip() or done.stdout.strip() or "no wheel came").splitlines()[-1]
            raise DataError(
                f"pip download {PACKAGE} failed: {reason}",
                remedy=f"Make pip's index reachable, or put the files of {FOLDER} into {folder}.",
            )
        _extract(wheels[0], cache_dir)
    return folder


def _extract(wheel: Path, cache_dir: Path) -> None:
    """Takes ml-100k's files out of the wheel; each appears whole or not at all."""
    with zipfile.ZipFile(wheel) as archive:
        members = [m for m in archive.namelist() if m.startswith(f"{FOLDER}/") and not m.endswith("/")]
        missing = {RATINGS, USERS, ITEMS} - {Path(m).name for m in members}
        if missing:
            raise DataError(
                f"{wheel.name} has no {FOLDER}/{min(missing)}", remedy=f"It must be the wheel of {PACKAGE}."
            )
        for member in members:
            target = cache_dir / member
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.partial")
            partial.write_bytes(archive.read(member))
            partial.replace(target)


def feasign(slot: int, value: str) -> int:
    """The feature's key: 63 bits, never 0 (which Paddle takes for padding)."""
    digest = hashlib.blake2b(f"{slot}={value}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 1) or 1


def write_tree(
    source: Path, data_dir: Path, *, days: int = 0, split_interval: int = 1440, donefile: str = "data.done",
    lines: Lines = feasign_lines,
) -> TreeSummary:  # fmt: skip
    """Writes the ratings below `source` (fetch's folder) as data_dir/YYYYMMDD/HHMM/part-0 and donefiles.

    `days` counts calendar days from the first rating, 0 for all 215; split_interval in minutes. Days and
    splits without a rating (two whole days are such) get a directory with the donefile only. Rows of a split
    are in order of time, user, item. lines: what a line has, by default feasign_slot with SLOTS. Raises ConfigError for
    a bad argument, DataError naming file and line.
    """
    if split_interval < 1 or MINUTES_A_DAY % split_interval:
        raise ConfigError(
            f"split_interval: {split_interval} minutes do not divide a day of {MINUTES_A_DAY}",
            remedy="Give a divisor of 1440.",
        )
    if days < 0:
        raise ConfigError(f"days: {days} is negative", remedy="Give 0 for all days.")
    if not donefile or Path(donefile).name != donefile:
        raise ConfigError(f"donefile: {donefile!r} is not a file name", remedy="Give a name such as data.done.")
    users, items = _users(source / USERS), _items(source / ITEMS)
    ratings = _ratings(source / RATINGS, users, items)
    if not ratings:
        raise DataError(f"{source / RATINGS} has no ratings", remedy="Delete the cache and fetch it again.")
    first, last = _moment(ratings[0].time).date(), _moment(ratings[-1].time).date()
    available = (last - first).days + 1
    if days > available:
        raise ConfigError(f"days: {days} are more than there are", remedy=f"Give at most {available}, or 0 for all.")
    days = days or available
    last_day = (first + timedelta(days=days - 1)).strftime("%Y%m%d")
    ratings = [rating for rating in ratings if f"{_moment(rating.time):%Y%m%d}" <= last_day]
    by_split: dict[str, list[str]] = defaultdict(list)
    for rating, line in zip(ratings, lines(ratings, users, items), strict=True):
        by_split[_split_of(rating.time, split_interval)].append(line)
    for offset in range(days):
        day = (first + timedelta(days=offset)).strftime("%Y%m%d")
        for minute in range(0, MINUTES_A_DAY, split_interval):
            split = f"{day}/{minute // 60:02d}{minute % 60:02d}"
            _write_split(data_dir / split, donefile, by_split.get(split, []))
    return TreeSummary(first.strftime("%Y%m%d"), last_day, days, len(ratings))


class _Keys(dict[tuple[int, str], int]):
    """Remembers feasigns: hashing 1.6 million values again would take most of the time."""

    def __missing__(self, key: tuple[int, str]) -> int:
        value = self[key] = feasign(*key)
        return value


def _line(rating: Rating, attributes: Attributes, keys: _Keys) -> str:
    tokens = [f"{rating.click}:{LABEL_SLOT}"]
    for slot in SLOTS:
        tokens += (f"{keys[slot.number, value]}:{slot.number}" for value in slot.values(attributes))
    return " ".join(tokens)


def _write_split(directory: Path, donefile: str, lines: list[str]) -> None:
    """The donefile comes last: a reader that sees it sees the whole split."""
    directory.mkdir(parents=True, exist_ok=True)
    if lines:
        partial = directory / ".part-0.partial"
        partial.write_text("\n".join(lines) + "\n", encoding="ascii")
        partial.replace(directory / "part-0")
    (directory / donefile).touch()


def _moment(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, timezone.utc)


def _split_of(seconds: int, split_interval: int) -> str:
    moment = _moment(seconds)
    minute = (moment.hour * 60 + moment.minute) // split_interval * split_interval
    return f"{moment:%Y%m%d}/{minute // 60:02d}{minute % 60:02d}"


def _records(path: Path, columns: int) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of a tab-separated file without its header."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            next(reader, None)
            for fields in reader:
                if len(fields) < columns:
                    raise DataError(
                        f"{path}, line {reader.line_num}: {len(fields)} columns, not {columns}",
                        remedy="Delete the cache and fetch it again.",
                    )
                yield reader.line_num, fields
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", remedy="Fetch the data set first.") from error


def _bad(path: Path, line: int, error: Exception) -> DataError:
    return DataError(f"{path}, line {line}: {error}", remedy="Delete the cache and fetch it again.")


def _users(path: Path) -> dict[int, Attributes]:
    users: dict[int, Attributes] = {}
    for line, (ident, age, gender, occupation, *_) in _records(path, 4):
        try:
            users[int(ident)] = {
                "user": (ident,),
                "age": (str(int(age) // 10),),
                "years": (str(int(age)),),
                "gender": (gender,),
                "occupation": (occupation,),
            }
        except ValueError as error:
            raise _bad(path, line, error) from error
    return users


def _items(path: Path) -> dict[int, Attributes]:
    items: dict[int, Attributes] = {}
    for line, (ident, _, year, genres, *_) in _records(path, 4):
        try:
            items[int(ident)] = {
                "item": (ident,),
                "year": (year,),
                "decade": (year[:3],),
                "genre": tuple(dict.fromkeys(genres.split())),
            }
        except ValueError as error:
            raise _bad(path, line, error) from error
    return items


def _ratings(path: Path, users: Mapping[int, Attributes], items: Mapping[int, Attributes]) -> list[Rating]:
    """Sorted by time, user, item."""
    ratings: list[Rating] = []
    for line, (user, item, stars, time, *_) in _records(path, 4):
        try:
            rating = Rating(int(float(time)), int(user), int(item), int(float(stars)))
        except (ValueError, OverflowError) as error:
            raise _bad(path, line, error) from error
        if rating.user not in users or rating.item not in items:
            raise _bad(path, line, ValueError(f"user {user} or item {item} is not in its table"))
        ratings.append(rating)
    ratings.sort(key=lambda r: (r.time, r.user, r.item))
    return ratings
