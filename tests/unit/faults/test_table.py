"""The table of the fault sweep: figures are those that were measured, or none."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamtrain.kafka.embedded import EmbeddedBroker
from tests.faults import sweep
from tests.faults.cases import CASES
from tests.faults.ground import Case, Ground, Outcome, recoveries
from tests.faults.sweep import Line, markdown
from tests.support.scene import Figures, Scene


def line_of(run: object, folder: Path) -> Line:
    case = Case("7", "a fault", run, 1, False, "")  # type: ignore[arg-type]
    return sweep._run(case, folder / "case", EmbeddedBroker(folder / "kafka"), 1, 1, "-")


def measure(ground: Ground, *figures: Figures) -> Scene:
    scene = ground.scene()
    scene.measured += figures
    return scene


def cells(line: Line) -> list[str]:
    return [cell.strip() for cell in markdown([line], 60).splitlines()[2].strip("|").split("|")]


def test_a_case_with_a_recount_shows_its_figures(tmp_path: Path) -> None:
    def run(ground: Ground) -> Outcome:
        measure(ground, Figures(0, 0))
        return Outcome("fine", recoveries(1.25, None), 1)

    assert cells(line_of(run, tmp_path)) == ["7", "a fault", "-", "fine", "1.2", "0", "0"]


def test_a_case_without_a_recount_shows_none(tmp_path: Path) -> None:
    assert cells(line_of(lambda _ground: Outcome("refused"), tmp_path))[-2:] == ["-", "-"]


def test_a_failed_case_shows_what_its_recounts_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep.tempfile, "mkdtemp", lambda prefix: str(tmp_path / prefix))

    def run(ground: Ground) -> Outcome:
        measure(ground, Figures(2, 0), Figures(1, 4))
        raise AssertionError("rows are missing")

    line = line_of(run, tmp_path)
    capsys.readouterr()
    assert not line.ok and cells(line)[3:] == ["**FAILED**: AssertionError: rows are missing", "-", "3", "4"]


def test_every_case_stands_once() -> None:
    assert len({case.id for case in CASES}) == len(CASES) >= 40
    assert [int(case.row) for case in CASES] == sorted(int(case.row) for case in CASES)
