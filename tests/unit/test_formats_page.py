"""docs/formats.md names every format that the code has, its number, its fields, and fixtures that are there."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from streamtrain.checkpoint.journal import PassRecord
from streamtrain.checkpoint.rewind import Intent
from streamtrain.contracts import reports
from streamtrain.contracts.donefiles import DoneLine
from streamtrain.contracts.identity import Change, JobIdentity
from streamtrain.contracts.inference_models import ModelManifest
from streamtrain.contracts.manifest import FileEntry, Manifest, ModelChain, Witness
from streamtrain.contracts.marker import SCHEMA as MARKER
from streamtrain.contracts.network_manifest import NetworkManifest, TableEntry
from streamtrain.contracts.sample import SCHEMA as SAMPLE
from streamtrain.contracts.sample import VALUES_SCHEMA as SAMPLE_VALUES
from streamtrain.contracts.served_network import Constant, DenseFeed, SlotFeed, TargetVariable
from streamtrain.contracts.table_text import PartMeta
from streamtrain.runtime.channel import GREETING
from streamtrain.runtime.child_state import ChildState
from streamtrain.runtime.part_state import PartState
from tests.support.paths import ROOT, TESTS

PAGE = (ROOT / "docs" / "formats.md").read_text()
ROWS = [line.strip("|").split(" | ") for line in PAGE.splitlines() if line.count(" | ") == 5]
NEWEST = max(p for p in (TESTS / "fixtures" / "formats").iterdir() if p.is_dir())
#: A constant with a format's number.
NUMBER = re.compile(r'^_?[A-Z_]*FORMAT\b[^=\n]*= *b?"?([0-9]+)"?', re.MULTILINE)


def modules() -> list[Path]:
    return [*(ROOT / "streamtrain").rglob("*.py"), *(ROOT / "connectors").rglob("*.py")]


def numbered() -> list[tuple[str, str]]:
    """(module, number) of each constant in the code."""
    found = {(str(p.resolve().relative_to(ROOT)), n) for p in modules() for n in NUMBER.findall(p.read_text())}
    return sorted(found)


def test_the_search_finds_the_constants() -> None:
    names = [Path(module).name for module, _ in numbered()]
    assert {"manifest.py", "identity.py", "journal.py", "rewind.py", "marker.py", "newest.py"} <= set(names)


@pytest.mark.parametrize(("module", "number"), numbered())
def test_every_number_in_the_code_is_on_the_page(module: str, number: str) -> None:
    rows = [row for row in ROWS if f"`{module}`" in row[4]]
    assert rows, f"docs/formats.md has no row of {module}"
    for row in rows:
        assert number in re.findall(r"\b[0-9]+\b", row[3]), row


def test_the_greeting_has_its_number_on_the_page() -> None:
    assert f"`{GREETING.decode().strip()}`" in PAGE


@pytest.mark.parametrize(
    "names",
    [
        *([f.name for f in fields(kind)] for kind in (
            Manifest, FileEntry, ModelChain, Witness, JobIdentity, Change, PassRecord, Intent, ModelManifest, DoneLine,
            NetworkManifest, TableEntry, SlotFeed, DenseFeed, Constant, TargetVariable,
            PartMeta, PartState, ChildState,
        )),
        *([f["name"] for f in schema.parsed["fields"]] for schema in (MARKER, SAMPLE, SAMPLE_VALUES)),
        [reports.CONSISTENCY, reports.UPLOAD],
    ],
)  # fmt: skip
def test_every_field_is_on_the_page(names: list[str]) -> None:
    kept = [name for name in names if name != "text"]  # a donefile's line as it was read
    assert [name for name in kept if not re.search(rf"`{re.escape(name)}`", PAGE)] == []


def test_every_module_and_fixture_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:streamtrain|connectors|tests)/[\w./-]+)`", PAGE)
    paths = [ROOT / path.replace("VERSION", NEWEST.name) for path in named]
    assert len(paths) > 20 and [path for path in paths if not path.exists()] == []
    for row in ROWS:
        place: Any = re.fullmatch(r" ?`([^`]+)` ?", row[5])
        if place and "/fixtures/" not in row[5] and row[0] != "format":
            path = place[1].replace("D/P", "20240101/2").replace("model_N", "model_2").replace("VERSION", "*")
            assert list(NEWEST.rglob(path.rstrip("/"))), f"{row[0]}: {path}"


def test_every_link_of_the_page_leads_somewhere() -> None:
    for page, anchor in re.findall(r"\]\(([\w.]*)#?([\w-]*)\)", PAGE):
        text = (ROOT / "docs" / page).read_text() if page else PAGE
        heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        anchors = [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]
        assert not anchor or anchor in anchors, (page, anchor)
