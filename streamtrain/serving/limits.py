"""What `streamtrain serve` takes at most, so that no client can take the memory, the time or the descriptors of all."""

from __future__ import annotations

from dataclasses import dataclass

from streamtrain.errors import ConfigError

#: Seconds for a request's line and headers to arrive, and for the rest of a body that was answered already.
HEAD_S = 10.0
#: Seconds that a connection without a request stays open.
IDLE_S = 5.0
#: Bytes of a request's line and headers.
HEAD_BYTES = 32 << 10
#: Bytes of all bodies that are being read or wait, as a multiple of one body's limit.
BODIES = 16
#: Bytes of a row for each feature that it may have: numbers may have zeros ahead of them.
FEATURE_BYTES = 40
#: Connections that the kernel hands over at once, which may briefly exist beyond the limit.
BACKLOG = 256
#: Descriptors that are no connections: files of a model that is loaded, pipes, libraries.
OTHER_DESCRIPTORS = 64 + BACKLOG


@dataclass(frozen=True)
class Limits:
    """body_bytes, rows, features (a row): of a request. request_s: seconds from its headers to the end of its answer.
    requests: to /predict that compute or wait to. connections: open at once.

    Raises ConfigError naming the option of a limit that is not over 0.
    """

    body_bytes: int = 16 << 20
    rows: int = 10_000
    features: int = 10_000
    request_s: float = 30.0
    requests: int = 64
    connections: int = 512

    def __post_init__(self) -> None:
        for option, value in (
            ("--max-body-bytes", self.body_bytes), ("--max-rows", self.rows), ("--max-features", self.features),
            ("--request-seconds", self.request_s), ("--max-requests", self.requests),
            ("--max-connections", self.connections),
        ):  # fmt: skip
            if not value > 0:
                raise ConfigError(f"{option} is {value}, it must be over 0")

    def check_descriptors(self, available: int) -> None:
        """available: what the process may have open (ulimit -n). Raises ConfigError when the connections need more."""
        needed = self.connections + OTHER_DESCRIPTORS
        if needed > available:
            raise ConfigError(
                f"--max-connections {self.connections} needs {needed} descriptors, this process may have {available}",
                remedy="Raise ulimit -n, or give a smaller --max-connections.",
            )
