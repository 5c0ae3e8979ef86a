"""Where the roles' shared secret comes from, and when there must be one."""

from pathlib import Path

import pytest

from streamtrain.errors import ConfigError
from streamtrain.runtime.secret import SECRET, SECRET_FILE, is_loopback, shared_secret

TEXT = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (SECRET, SECRET_FILE):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "localhost", "LOCALHOST", "localhost.", "::1"])
def test_loopback_needs_none(host: str) -> None:
    assert is_loopback(host) and shared_secret([host]) == b""


@pytest.mark.parametrize("host", ["10.0.0.1", "worker-0", "0.0.0.0", "localhost.example.com", "127.1", "2130706433"])
def test_any_other_address_needs_one(host: str) -> None:
    with pytest.raises(ConfigError, match="STREAMTRAIN_SECRET is not set, and " + host):
        shared_secret(["127.0.0.1", host])


def test_it_is_read_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, TEXT)
    assert shared_secret(["worker-0"]) == TEXT.encode()
    file = tmp_path / "secret"
    file.write_text(f"{TEXT}\n")
    monkeypatch.setenv(SECRET_FILE, str(file))
    with pytest.raises(ConfigError, match="both STREAMTRAIN_SECRET and STREAMTRAIN_SECRET_FILE"):
        shared_secret(["worker-0"])
    monkeypatch.delenv(SECRET)
    assert shared_secret(["worker-0"]) == TEXT.encode()


@pytest.mark.parametrize("text", ["", "  ", "short", " 0123456789abcde\n"])
def test_a_short_one_is_refused_also_on_loopback(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, text)
    with pytest.raises(ConfigError, match=r"STREAMTRAIN_SECRET: the secret has .* characters") as raised:
        shared_secret(["127.0.0.1"])
    assert not text.strip() or text.strip() not in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_FILE, str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"STREAMTRAIN_SECRET_FILE: .*/none: No such file"):
        shared_secret(["127.0.0.1"])
    (tmp_path / "bytes").write_bytes(b"\xff" * 40)
    monkeypatch.setenv(SECRET_FILE, str(tmp_path / "bytes"))
    with pytest.raises(ConfigError, match="not UTF-8"):
        shared_secret(["127.0.0.1"])
