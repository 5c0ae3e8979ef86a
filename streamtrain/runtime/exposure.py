"""Which of Paddle's ports others can reach: reported once at a start, since Paddle asks nobody who he is."""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence

from streamtrain.runtime.secret import is_loopback

log = logging.getLogger("streamtrain.exposure")


def warn_of_servers(hosts: Sequence[str]) -> None:
    """For roles on several machines: at addresses that are not loopback, Paddle's ports are open to their network."""
    outside = list(dict.fromkeys(host for host in hosts if not is_loopback(host)))
    if outside:
        log.warning(
            "Paddle's servers and workers listen at %s, and whoever reaches a server's port can run commands there: "
            "let no one but the job's roles reach them, see docs/operations.md, Ports that must be closed off",
            ", ".join(outside),
        )


def warn_of_workers() -> None:
    """For roles on this machine, whose servers are at loopback: Paddle's workers take the address of its host name."""
    try:
        address = socket.gethostbyname(socket.gethostname())
    except OSError:
        return  # Paddle takes loopback then
    if not is_loopback(address):
        log.warning(
            "Paddle's workers listen at %s, ports 8500 and up, and at a free port while they start: let no other "
            "machine reach them, see docs/operations.md, Ports that must be closed off",
            address,
        )
