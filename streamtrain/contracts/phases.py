"""What a worker is doing, in the words that its state file, `status` and the hang detector share."""

from __future__ import annotations

STARTING = "starting"
LOADING = "loading the checkpoint"
READING = "reading"
PREDICTING = "predicting"
TRAINING = "training"
INFERRING = "predicting infer_data_dir"
SAVING = "saving a checkpoint"
WAITING = "waiting for"
DONE = "done"
STOPPED = "stopped by a signal"
#: Before the error that a part ended with.
FAILED = "failed"

#: In these phases the roles use processor time all along; when no role does, they hang.
BUSY = frozenset({STARTING, LOADING, READING, PREDICTING, TRAINING, INFERRING})


def failed(exit_code: int, error: str) -> str:
    """How a part ended, in the words that the terminal has too."""
    return f"{FAILED} with exit code {exit_code}: {error}"
