"""tests/fixtures/formats: what each version left of its small job. README.md there says what the files are."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from tests.support.paths import TESTS

FORMATS = TESTS / "fixtures" / "formats"
VERSIONS = sorted(p.name for p in FORMATS.iterdir() if p.is_dir())


def unpacked(place: str, into: Path) -> Path:
    """A folder of FORMATS, its binary files as they were."""
    for file in sorted((FORMATS / place).rglob("*")):
        if file.is_file():
            to = into / file.relative_to(FORMATS / place)
            to.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".hex":
                to.with_suffix("").write_bytes(bytes.fromhex(file.read_text()))
            else:
                to.write_bytes(file.read_bytes())
    return into


def messages(folder: Path, topic: str) -> list[tuple[bytes, list[tuple[str, bytes]]]]:
    """(value, headers) of each message."""
    lines = map(json.loads, (folder / f"{topic}.jsonl").read_text().splitlines())
    return [(base64.b64decode(line["value"]), [(k, v.encode()) for k, v in line["headers"].items()]) for line in lines]
