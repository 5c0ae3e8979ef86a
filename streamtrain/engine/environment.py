"""Environment variables that servers and workers must have before they start. Needs no Paddle."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

#: What a role sets even when its launcher has set it otherwise: fleetrun turns gloo off, and without it several
#: workers would neither wait for each other nor sum anything up, and report no error.
FORCED = frozenset({"PADDLE_WITH_GLOO"})


def engine_environment() -> dict[str, str]:
    """FLAGS and thread counts; on AMD's processors also the switch to MKL's fast path.

    Paddle 3.0.0's wheel multiplies with an old MKL that takes a slow path on AMD; the switch forces AVX2,
    more than twice as fast there (measured), and is not for other processors.
    """
    environment = {
        "FLAGS_enable_pir_api": "0",
        "PADDLE_WITH_GLOO": "1",
        "OMP_NUM_THREADS": "1",
        "GLOG_v": "0",
        "GLOG_minloglevel": "1",
    }
    try:
        if "AuthenticAMD" in Path("/proc/cpuinfo").read_text():
            environment["MKL_DEBUG_CPU_TYPE"] = "5"
    except OSError:
        pass
    return environment


def inference_environment() -> dict[str, str]:
    """The part that a process needs which only predicts."""
    wanted = {"FLAGS_enable_pir_api", "OMP_NUM_THREADS", "GLOG_v", "GLOG_minloglevel", "MKL_DEBUG_CPU_TYPE"}
    return {name: value for name, value in engine_environment().items() if name in wanted}


@contextlib.contextmanager
def importing_paddle() -> Iterator[None]:
    """Around `import paddle`: the process's logging stays as it is, and no warning is shown.

    Paddle's import adds a handler to the root logger and sets its level, and warns of a compiler's cache.
    """
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
