"""What a worker is doing, in the words that its state file, `status` and the hang watch share."""

from __future__ import annotations

STARTING = "starting"
LOADING = "loading the checkpoint"
READING = "reading"
PREDICTING = "predicting"
TRAINING = "training"
SAVING = "saving a checkpoint"
WAITING = "waiting for"
DONE = "done"
STOPPED = "stopped by a signal"

#: In these a set of roles uses processor time all along; when none of them does, they wait for each other.
BUSY = frozenset({STARTING, LOADING, READING, PREDICTING, TRAINING})
