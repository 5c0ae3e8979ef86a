"""Every error that a user can meet.

    StreamtrainError            1
    |- ConfigError              2   a key of config_online.yaml, or a command's argument
    |  `- JobChanged           18   a key that is fixed for a job differs from what its checkpoint was made with
    |- DataError                3   a source file, a line, a record, a count that does not agree
    |- UnknownFormat           15   a file or message that a newer version wrote, or something else
    |- Unreadable              16   a file that the file system refuses to show, after retries
    |- KafkaError               4   the broker, a topic, a client
    |  |- BrokerUnavailable     4
    |  |- NotAllowed           20   authentication, authorization or TLS: what no retry fixes
    |  |- TopicMismatch         7   a topic that is not as the job needs it
    |  |  |- TopicReplaced     10   it was deleted, or deleted and recreated
    |  |  |- PartitionsChanged 11
    |  |  `- RetentionPassed   12   an offset that is needed is no longer there
    |  `- Fenced                8   a newer instance of the same job took over
    |- CheckpointError          5   files under model_save_path
    |  `- StateMismatch         7   the checkpoint and Kafka disagree: nothing is touched
    |     |- CheckpointMissing 13   the group has committed one that is not on disk
    |     |- OtherCluster      14   the checkpoint is of another Kafka cluster
    |     `- NoneUsable        17   there are checkpoints, or a witness, and none can be loaded
    |- TrainingError            6   Paddle, or a role that died
    |  |- PeerLost              6   a role on another machine died
    |  `- BadModel             19   weights or predictions that are not finite, or out of their bounds
    |- DiskError                9   a local disk: the folder for the passes being trained
    `- ChildFailed              -   a process that this one started failed, with that one's exit code

The number is the process's exit code. A message names the thing (topic, partition, offset, file, line,
config key); `remedy` says what to do.
"""

from __future__ import annotations

from streamtrain.masking import mask_text, printable


class StreamtrainError(Exception):
    """Base of all errors of this package.

    `remedy`: one sentence that says what the user can do. Passwords and tokens of URLs in both are masked,
    and both can be written as UTF-8, whatever file they name.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = printable(mask_text(message))
        self.remedy = printable(mask_text(remedy))
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message}. {self.remedy}" if self.remedy else self.message


class ConfigError(StreamtrainError):
    """A key of config_online.yaml, or a command's argument."""

    exit_code = 2


class JobChanged(ConfigError):
    """A key that is fixed for a job differs from what the job's newest checkpoint was made with."""

    exit_code = 18


class DataError(StreamtrainError):
    """A source file, a line, a record, a count that does not agree."""

    exit_code = 3


class UnknownFormat(StreamtrainError):
    """A file or message that a newer version wrote, or something else: not damaged, and not ours to judge.

    REMEDY: what to do about one that was read before anything else was done.
    """

    exit_code = 15
    REMEDY = "Start the version of streamtrain that wrote it, or a newer one; nothing was touched."


class Unreadable(StreamtrainError):
    """A file that the file system refuses to show (EIO, EACCES ..), after retries: it may well be valid."""

    exit_code = 16


class KafkaError(StreamtrainError):
    """The broker, a topic, a client."""

    exit_code = 4


class BrokerUnavailable(KafkaError):
    """The broker does not answer."""


class NotAllowed(KafkaError):
    """The broker refuses the login, the certificate or a right: what no retry fixes."""

    exit_code = 20


class TopicMismatch(KafkaError):
    """A topic is not as the job needs it."""

    exit_code = 7


class TopicReplaced(TopicMismatch):
    """A topic was deleted, or deleted and recreated."""

    exit_code = 10


class PartitionsChanged(TopicMismatch):
    """A topic's number of partitions is not the job's."""

    exit_code = 11


class RetentionPassed(TopicMismatch):
    """An offset that is needed is no longer there."""

    exit_code = 12


class Fenced(KafkaError):
    """A newer instance of the same job has taken over."""

    exit_code = 8


class CheckpointError(StreamtrainError):
    """Files under model_save_path."""

    exit_code = 5


class StateMismatch(CheckpointError):
    """The checkpoint and Kafka disagree; nothing is touched."""

    exit_code = 7


class CheckpointMissing(StateMismatch):
    """The group has committed a checkpoint that is not on disk."""

    exit_code = 13


class OtherCluster(StateMismatch):
    """The checkpoint is of another Kafka cluster."""

    exit_code = 14


class NoneUsable(StateMismatch):
    """There are directories of checkpoints, or a witness, and none can be loaded."""

    exit_code = 17


class TrainingError(StreamtrainError):
    """Paddle, or a role that died."""

    exit_code = 6


class PeerLost(TrainingError):
    """A role on another machine died."""


class BadModel(TrainingError):
    """Weights or predictions of a pass are not finite, or out of their bounds: nothing of the pass is saved."""

    exit_code = 19


class DiskError(StreamtrainError):
    """A local disk: the folder for the passes being trained, or for dumps."""

    exit_code = 9


class ChildFailed(StreamtrainError):
    """A server, a worker, the bridge or another child process ended with an error: its message, its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


#: Exit codes that a restart cannot fix: config, data, refusals, fenced.
FINAL = frozenset({2, 3, 7, 8, *range(10, 21)})
