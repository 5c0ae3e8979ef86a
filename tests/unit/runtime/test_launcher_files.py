"""The files in which Paddle's own launcher leaves its environment."""

from pathlib import Path

import pytest

from streamtrain.runtime import launcher_files


def test_they_become_their_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holding = {"envlog.0": "A=b", "backup_env.0.json": "{}", "default.abc.log": "environ({'A': 'b'})"}
    other = {"workerlog.0": "environ(", "bridge.log": "a line"}
    for name, text in {**holding, **other}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644)
    monkeypatch.delenv("PADDLE_LOG_DIR", raising=False)
    launcher_files.close_off()
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir()} == {0o644}
    monkeypatch.setenv("PADDLE_LOG_DIR", str(tmp_path))
    launcher_files.close_off()
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    assert modes == {**dict.fromkeys(holding, 0o600), **dict.fromkeys(other, 0o644)}
