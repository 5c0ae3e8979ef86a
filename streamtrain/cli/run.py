"""streamtrain run"""

from __future__ import annotations

from streamtrain.cli.options import ConfigOption, ProfileOption, stop_on_signals


def command(config: ConfigOption, profile: ProfileOption = False) -> None:
    """Run all of it: Kafka (embedded if none is named), the bridge and the trainer, until end_day."""
    stop = stop_on_signals()
    from rich.console import Console

    from streamtrain.cli.live import PassPrinter
    from streamtrain.config import load_config
    from streamtrain.contracts import phases
    from streamtrain.engine import profiling
    from streamtrain.runtime import preflight
    from streamtrain.runtime.part_state import PartReporter, beginning, reporting_end
    from streamtrain.runtime.pipeline import Pipeline

    job = load_config(config)
    profiling.ask_for(profile)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    for key in job.no_effect:
        console.print(f"{key} has no effect here", style="dim")
    if job.runner.train_thread_num > 1:
        console.print(
            f"runner.train_thread_num: {job.runner.train_thread_num} threads become one a worker "
            "(Paddle counts rows wrongly with more); stream.workers gives more speed",
            style="dim",
        )
    with beginning(job.state_dir, "run"):
        preflight.refuse(job, bridge=True, stop=stop)
    printer = PassPrinter(job, console)
    pipeline = Pipeline(job, stop=stop, on_restart=printer.restarted, tick=printer.tick)
    report = PartReporter(job.state_dir, "run")
    if not stop.is_set():
        with printer, reporting_end(report):
            report("running")
            pipeline.run()
            report(phases.STOPPED if stop.is_set() else phases.DONE)
    if stop.is_set():
        console.print(phases.STOPPED)
