"""A role that loads a checkpoint into fresh servers and computes a sample of rows: for a consistency check apart from
the job's own servers and workers. `streamtrain consistency` starts one server and one worker of it.

    dump_role.py CONFIG CHECKPOINT FOLDER    FOLDER: sample.txt in, dump/ out
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # A script's folder comes first in sys.path, and its module names must not hide others.
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import os

from streamtrain.config import JobConfig, load_config
from streamtrain.dumps import Dump, check_part
from streamtrain.engine.environment import FORCED, engine_environment
from streamtrain.errors import StreamtrainError
from streamtrain.processes import die_with_parent
from streamtrain.runtime.child_state import reporting


def main() -> None:
    kind = "server" if os.environ.get("TRAINING_ROLE") == "PSERVER" else "worker"
    die_with_parent()
    try:
        with reporting(kind):
            _run(load_config(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
    except StreamtrainError as error:
        sys.stderr.write(f"error: {error}\n")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # Paddle's threads may crash the interpreter's own end


def _run(config: JobConfig, checkpoint: Path, folder: Path) -> None:
    os.environ.update({k: v for k, v in engine_environment().items() if k in FORCED or k not in os.environ})
    from streamtrain.engine.engine import Engine

    engine = Engine.of_job(config, exact_delta=False, compares=True)  # it trains nothing
    if engine.is_server:
        engine.serve()
        return
    engine.connect()
    engine.state.load(checkpoint, folder)
    dataset = engine.read([folder / "sample.txt"], ins_ids=True)
    dump = Dump(folder / "dump", engine.compared_variables())
    dump.directory.mkdir()
    engine.predict(dataset, dump)
    check_part(dump, 0)


if __name__ == "__main__":
    main()
