"""The warning of Paddle's open ports."""

import socket

import pytest

from streamtrain.runtime import exposure


def test_addresses_that_are_not_loopback_are_named_once(caplog: pytest.LogCaptureFixture) -> None:
    exposure.warn_of_servers(["127.0.0.1", "localhost"])
    assert not caplog.records
    exposure.warn_of_servers(["127.0.0.1", "server-0", "server-0", "10.0.0.3"])
    assert len(caplog.records) == 1 and "listen at server-0, 10.0.0.3, and" in caplog.text


@pytest.mark.parametrize(("address", "warned"), [("10.0.0.3", True), ("127.0.1.1", False), (None, False)])
def test_workers_of_this_machine(
    address: str | None, warned: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def resolve(_name: str) -> str:
        if address is None:
            raise socket.gaierror
        return address

    monkeypatch.setattr(socket, "gethostbyname", resolve)
    exposure.warn_of_workers()
    assert bool(caplog.records) == warned and (not warned or "workers listen at 10.0.0.3" in caplog.text)
