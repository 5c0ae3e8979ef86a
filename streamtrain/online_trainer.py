"""The role script: what `fleetrun` starts for each server and each worker.

fleetrun --server_num=1 --worker_num=1 ../../streamtrain/online_trainer.py -m config_online.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # A script's folder comes first in sys.path, and its module names must not hide others.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import contextlib
import faulthandler
import logging
import os
import signal
import subprocess
import threading
import time
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING

import psutil
import yaml

from streamtrain import failpoints
from streamtrain.config import JobConfig, load_config
from streamtrain.contracts import phases
from streamtrain.engine import round_check
from streamtrain.engine.environment import FORCED, engine_environment
from streamtrain.engine.model_checks import refuse_other_slots
from streamtrain.errors import StreamtrainError
from streamtrain.failpoints import failpoint
from streamtrain.masking import MaskingFormatter
from streamtrain.processes import die_with_parent, tie_to
from streamtrain.runtime import child_state, launcher_files
from streamtrain.runtime.part_state import PartReporter, reporting_end
from streamtrain.stopping import Stopped

if TYPE_CHECKING:
    from streamtrain.engine.engine import Engine

log = logging.getLogger("streamtrain")

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    parser = argparse.ArgumentParser(description="One role, server or worker, of a job's training")
    parser.add_argument("-m", "--config", required=True, help="config_online.yaml")
    arguments = parser.parse_args()
    kind = "server" if os.environ.get("TRAINING_ROLE") == "PSERVER" else "worker"
    index = int(os.environ.get("PADDLE_TRAINER_ID") or 0) if kind == "worker" else _server_index()
    faulthandler.enable()
    _log_to_stdout()
    die_with_parent()
    parent = {"pid": os.getpid()}
    os.register_at_fork(  # paddle forks a rendezvous server
        before=lambda: parent.update(pid=os.getpid()), after_in_child=lambda: _begin_child(parent["pid"])
    )
    try:
        launcher_files.close_off()
        failpoints.read_environment()
    except StreamtrainError as error:
        child_state.write(kind, index, "failed", exit_code=error.exit_code, message=str(error))
        log.error("%s", error)
        return _leave(error.exit_code)
    if kind == "server" and child_state.KEPT not in os.environ:
        return _keep_server()
    begin = {"endpoint": _endpoint()} if kind == "server" else {"phase": phases.STARTING}
    try:
        with child_state.reporting(kind, index, **begin) as ending:
            ending.stopped = _run(load_config(arguments.config), kind, index)
    except StreamtrainError as error:
        log.error("%s", error)
        return _leave(error.exit_code)
    except Stopped:
        log.info("stopped before its round")
        return _leave(0)
    except Exception:
        log.exception("the %s ends", kind)
        return _leave(1)
    return _leave(0)


def _run(config: JobConfig, kind: str, index: int) -> bool:
    """Whether it ended at a stop, and not at the end of the stream."""
    os.environ.update({k: v for k, v in engine_environment().items() if k in FORCED or k not in os.environ})
    stop = threading.Event()

    def on_signal(number: int, _frame: types.FrameType | None) -> None:
        log.info("%s received", signal.Signals(number).name)
        stop.set()

    if child_state.HELD not in os.environ:
        _say_config(config, kind)
    from streamtrain.engine.engine import Engine  # imports paddle: seconds

    if kind == "worker":  # paddle's import sets handlers of its own; a server ends with its launcher
        signal.signal(signal.SIGTERM, on_signal)
        signal.signal(signal.SIGINT, on_signal)
        _keep_signals_from_this_thread()
    engine = Engine.of_job(config, exact_delta=config.stream.exact_delta)
    if engine.is_server:
        _hold(config, kind, stop)
        failpoint("server.up")
        engine.serve()
        return False
    from streamtrain.checkpoint.opening import run_of
    from streamtrain.kafka.connect import properties_of
    from streamtrain.object_store import ObjectStore
    from streamtrain.runtime.exchange import Exchange
    from streamtrain.training.trainer import Trainer

    _hold(config, kind, stop)
    refuse_other_slots(engine.slots, config.slots, config.model_dir, any_order=bool(config.stream.features))
    if index == 0:
        for note in engine.notes:
            log.warning("%s", note)
        _say_pools(engine)
    report = PartReporter(config.state_dir, "trainer")

    doing = [phases.STARTING]

    def on_phase(phase: str) -> None:
        doing[0] = phase
        child_state.write(kind, index, "running", phase=phase)
        if index == 0:
            report(phase)

    @contextlib.contextmanager
    def waiting_for_store() -> Iterator[None]:
        before = doing[0]
        on_phase(f"{phases.WAITING} the store")
        try:
            yield
        finally:
            on_phase(before)

    with reporting_end(report) if index == 0 else contextlib.nullcontext():
        on_phase(phases.STARTING)
        owner = os.environ.get(child_state.OWNER, "nobody")
        if child_state.SINCE in os.environ:
            with waiting_for_store():
                run_of(config).check_owner(owner, int(os.environ[child_state.SINCE]))
        if index == 0 and config.store is not None and child_state.EXCHANGE in os.environ:
            run_dir = Path(os.environ[child_state.RUN_DIR])
            engine.state.exchange = Exchange(run_dir, ObjectStore(config.store), waiting_for_store)
        log.info("the model is built, joining the servers")
        engine.connect()
        log.info("joined the servers")
        trainer = Trainer(config, properties_of(config), engine, stop, owner=owner, on_phase=on_phase)
        trainer.run()
        on_phase(phases.STOPPED if trainer.stopped else phases.DONE)
        log.info("stopped" if trainer.stopped else "all done")
    if not trainer.gave_up:
        engine.stop()  # with several workers it waits for the others
    return trainer.stopped


def _hold(config: JobConfig, kind: str, stop: threading.Event) -> None:
    """The log of a role that is started ahead begins with its round."""
    if child_state.HELD in os.environ:
        log.info("ready for a round")
        child_state.hold(stop)
        _say_config(config, kind)


def _say_config(config: JobConfig, kind: str) -> None:
    if kind != "worker":
        return
    log.info("config %s\n%s", config.path, yaml.safe_dump(config.masked(), sort_keys=False))
    for key in config.no_effect:
        log.info("config: %s has no effect here", key)
    if config.runner.train_thread_num > 1:
        log.warning(
            "config: runner.train_thread_num is %d; each worker uses one thread, since Paddle counts rows wrongly "
            "with more. Use stream.workers for more speed",
            config.runner.train_thread_num,
        )


def _say_pools(engine: Engine) -> None:
    """What the fast path `pool` has made of the network."""
    if engine.pools.joined:
        log.info("the pools of %d slots' embeddings are computed together", engine.pools.joined)
    for reason in engine.pools.apart:
        log.info("a pool stays as the network has it: %s", reason)


def _keep_signals_from_this_thread() -> None:
    """Another thread receives SIGTERM and SIGINT; Python still calls their handlers in this one.

    After its last batch, train_from_dataset waits for the pushes in a sleep (usleep, `BrpcPsClient::flush`), which a
    signal to its thread ends at once: measured, the pass's rows were lost to the checkpoint that followed.
    """
    threading.Thread(target=threading.Event().wait, name="signals", daemon=True).start()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _begin_child(parent: int) -> None:
    tie_to(parent)()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _keep_server() -> int:
    """Runs the server as a child, and ends it, with exit code 0, when the launcher's workers have ended: the launcher
    waits for all of its children, Paddle's servers do not end by themselves, and no thread can run beside one, since it
    holds the interpreter's lock. A server without workers beside it keeps running."""
    name = round_check.round_name()
    child = subprocess.Popen(
        [sys.executable, *round_check.interpreter_options(name), "-u", *sys.argv],
        env={**os.environ, child_state.KEPT: "1", round_check.NAME: name},
    )
    launcher = psutil.Process(os.getppid())
    had_workers = False
    while (code := child.poll()) is None:
        running = [c for c in launcher.children() if _is_worker(c)]
        had_workers = had_workers or bool(running)
        if had_workers and not running:
            child.kill()
            child.wait()
            return 0
        time.sleep(0.3)
    return code if code >= 0 else 128 - code


def _is_worker(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE and process.environ().get("TRAINING_ROLE") == "TRAINER")
    except psutil.Error:
        return False


def _log_to_stdout() -> None:
    """On the package's own logger: paddle's import sets the root's level to WARNING."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(MaskingFormatter())
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False


def _server_index() -> int:
    endpoints = os.environ.get("PADDLE_PSERVERS_IP_PORT_LIST", "").split(",")
    return endpoints.index(_endpoint()) if _endpoint() in endpoints else 0


def _endpoint() -> str:
    return f"{os.environ.get('POD_IP', '127.0.0.1')}:{os.environ.get('PADDLE_PORT', '')}"


def _leave(code: int) -> int:
    """Paddle's threads may crash the interpreter's own end: the output is flushed, then the process just ends."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
