"""The state machine is proven: the protocol's real source, broken on purpose, must turn it red."""

from __future__ import annotations

import logging
import types
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from streamtrain.checkpoint import commit
from tests.unit.checkpoint.job_machine import JobMachine

FENCE = """        self._fence(manifest, digest)
        failpoint("commit.fenced")
"""
RENAME = """        path = self._store.publish(staged, manifest.id)
        failpoint("commit.renamed")
"""
COMMIT = """        self._commit(manifest, digest)
        failpoint("commit.committed")
"""
LIST = """        if manifest.models:
            self._models.list_in_donefiles(manifest.models)
"""
ROLL_FORWARD = """                self._roll_forward(manifest, chosen.digest)
"""
ABORTED = """        if not self._offsets.commit():
            self._fence(manifest, digest)
"""
WITNESS = "        if witness is not None and (chosen is None or chosen.id < witness.id):"
SETTLE = """        self._models.settle(chosen.id if chosen else None, manifest.models if manifest else ())
"""
APPEND = """            self._store.append_donefile(chosen.id, int(time.time()))
"""
#: name: (what is taken out of the source, what is put in its place), pair by pair.
MUTANTS: dict[str, list[tuple[str, str]]] = {
    "swap fence and rename": [(FENCE, ""), (RENAME, RENAME + FENCE)],
    "commit before the rename": [(COMMIT, ""), (RENAME, COMMIT + RENAME)],
    "forget the roll-forward": [(ROLL_FORWARD, "                pass\n")],
    "never commit": [(COMMIT, "")],
    "list the models before the rename": [(LIST, ""), (RENAME, LIST + RENAME)],
    "do not repeat an aborted commit": [(ABORTED, ABORTED.replace("not self._offsets.commit()", "False"))],
    "ignore the witness": [(WITNESS, "        if False:")],
    "take the newest, damaged or not": [("if problem is None:", "if checkpoint.manifest is not None:")],
    "leave older runs their directories": [("        self._run.clear_older(owner)\n", "")],
    "do not fence Kafka": [("        self._offsets.take_over()\n", "")],
    "leave the donefile to the next checkpoint": [(APPEND, "")],
    "leave the models' donefiles to the next model": [(SETTLE, "")],
}


def mutated(changes: list[tuple[str, str]]) -> type[commit.Committer]:
    """Committer, out of its own source with these changes."""
    source = Path(commit.__file__).read_text()
    for old, new in changes:
        assert source.count(old) == 1, f"the source has not exactly one {old!r}"
        source = source.replace(old, new)
    module = types.ModuleType("mutant")
    module.__file__ = commit.__file__
    exec(compile(source, "mutant of commit.py", "exec"), module.__dict__)
    committer: type[commit.Committer] = module.Committer
    return committer


@pytest.mark.parametrize("name", MUTANTS)
def test_the_machine_sees_it(name: str) -> None:
    logging.disable(logging.CRITICAL)
    machine = type("Mutant", (JobMachine,), {"committer": mutated(MUTANTS[name])})
    tries = settings(
        max_examples=3000,  # most are seen within the first hundred
        stateful_step_count=40,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    try:
        with pytest.raises(BaseException) as caught:
            run_state_machine_as_test(machine, settings=tries)
        print(f"{name}: {caught.value!r:.200}")
    finally:
        logging.disable(logging.NOTSET)
