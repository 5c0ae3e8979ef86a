"""The commit protocol in every order: see job_machine.py."""

from hypothesis import HealthCheck, settings

from tests.unit.checkpoint.job_machine import JobMachine

TestJob = JobMachine.TestCase
TestJob.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
