"""What the text of a consistency check's sample is made of: the network's feeds, in a file beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import orjson

from streamtrain.contracts.network import NetworkFeed

FEEDS = "feeds.json"


def write_feeds(sample: Path, feeds: Sequence[NetworkFeed]) -> None:
    """feeds: in the order of the text."""
    sample.with_name(FEEDS).write_bytes(orjson.dumps([asdict(feed) for feed in feeds]))


def read_feeds(sample: Path) -> list[NetworkFeed]:
    """Of a sample by the same version."""
    return [NetworkFeed(**feed) for feed in orjson.loads(sample.with_name(FEEDS).read_bytes())]
