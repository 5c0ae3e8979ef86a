"""The wheel out of a clean checkout has every tracked file of the package, and nothing else. Without the network."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = pytest.mark.timeout(300)
#: Top-level folders that are packages below streamtrain, by their links.
LINKS = {"connectors": "streamtrain/connectors", "models": "streamtrain/demo/models"}


def tracked() -> set[str]:
    """Files of the package, by their names in a wheel."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    names = {name for name in listed if name.startswith("streamtrain/") and name not in LINKS.values()}
    for folder, link in LINKS.items():
        names |= {link + name.removeprefix(folder) for name in listed if name.startswith(f"{folder}/")}
    return names


def build(source: Path, folder: Path) -> set[str]:
    """Names in the wheel, but those of its metadata."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(source)], check=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What is committed and what is changed since, without what is not tracked."""
    folder = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    changed = subprocess.run(["git", "diff", "HEAD", "--binary"], cwd=ROOT, capture_output=True, check=True).stdout
    if changed:
        subprocess.run(["git", "apply", "--index"], cwd=folder, input=changed, check=True)
    return folder


def test_it_has_every_file_of_the_package(checkout: Path, tmp_path: Path) -> None:
    names = build(checkout, tmp_path / "wheels")
    assert names == tracked()
    assert {name.partition("/")[0] for name in names} == {"streamtrain"}


def test_a_missing_line_is_seen(checkout: Path, tmp_path: Path) -> None:
    """The check is proven: without its package-data line a schema is missing."""
    project = checkout / "pyproject.toml"
    text = project.read_text()
    line = '"streamtrain.contracts" = ["*.avsc"]\n'
    assert line in text
    project.write_text(text.replace(line, ""))
    missing = tracked() - build(checkout, tmp_path / "wheels")
    assert missing == {f"streamtrain/contracts/{name}.avsc" for name in ("Sample", "SampleValues", "SplitDone")}
