"""The commit protocol in every order, in a folder and on a store: see job_machine.py."""

from hypothesis import HealthCheck, settings

from tests.unit.checkpoint.job_machine import JobMachine, StoreMachine

TestJob = JobMachine.TestCase
TestJob.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)

TestStore = StoreMachine.TestCase
TestStore.settings = settings(TestJob.settings, max_examples=60, stateful_step_count=30)
