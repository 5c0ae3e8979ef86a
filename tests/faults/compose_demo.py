"""`make compose-demo`: docker compose on the demo's data, with the main process of four containers crashed.

The days' donefiles are set one after the other, so that there is something to do all along. Ends with the
recount from the volumes.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from streamtrain.demo.run import prepare as prepare_demo
from tests.support.paths import COMPOSE_FILE, ROOT
from tests.support.ports import free_port

ROLES = ("server-0", "server-1", "worker-0", "worker-1")
VICTIMS = ("bridge", "worker-1", "server-1", "kafka")
#: Seconds between the donefiles of two days.
DAY_S = 1.5


class Compose:
    """One compose project of its own."""

    def __init__(self, folder: Path) -> None:
        self._name = f"streamtrain-demo-{os.getpid()}"
        self._environment = {
            **os.environ,
            "COMPOSE_PROJECT_NAME": self._name,
            "STREAMTRAIN_JOB": str(folder / "job"),
            "STREAMTRAIN_DATA": str(folder / "data"),
            "STREAMTRAIN_IMAGE": "streamtrain-demo",
            "STREAMTRAIN_SECRET": secrets.token_hex(32),
            "STREAMTRAIN_SERVE": f"127.0.0.1:{free_port()}",
        }
        self.served_at = f"http://{self._environment['STREAMTRAIN_SERVE']}"

    def __call__(self, *arguments: str, check: bool = True, capture: bool = True) -> str:
        done = subprocess.run(
            ["docker", "compose", "-f", str(COMPOSE_FILE), *arguments],
            env=self._environment, check=False, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if capture else None, stderr=subprocess.PIPE if capture else None,
        )  # fmt: skip
        if check and done.returncode:
            raise SystemExit(f"docker compose {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr or ''}")
        return done.stdout or ""

    def container(self, service: str) -> str:
        return f"{self._name}-{service}-1"

    def inspect(self, service: str, what: str) -> str:
        done = subprocess.run(
            ["docker", "inspect", "-f", f"{{{{{what}}}}}", self.container(service)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout.strip()

    def passes(self) -> list[dict[str, Any]]:
        """passes.jsonl out of the model's volume."""
        done = subprocess.run(
            ["docker", "cp", f"{self.container('worker-0')}:/model/passes.jsonl", "-"], capture_output=True, check=False
        )
        if done.returncode:
            return []
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            file = archive.extractfile("passes.jsonl")
            return [json.loads(line) for line in (file.read() if file else b"").splitlines() if line.endswith(b"}")]

    def crash(self, service: str) -> float:
        """SIGKILL to the container's main process, which its restart policy takes for a crash; when it was."""
        pid = int(self.inspect(service, ".State.Pid"))
        if pid < 2:
            raise SystemExit(f"{service} does not run")
        moment = time.time()
        os.kill(pid, signal.SIGKILL)
        return moment


def ask(compose: Compose) -> dict[str, Any]:
    """A prediction, once the container serves the model of the stream's end."""
    end = compose.passes()[-1]["day"]

    def fresh() -> dict[str, Any] | None:
        try:
            with urllib.request.urlopen(f"{compose.served_at}/healthz", timeout=3) as answer:
                found: dict[str, Any] = json.load(answer)
            return found if found["model"]["day"] > end else None
        except OSError:
            return None

    wait_for("the last model to be served", fresh, 60)
    body = json.dumps({"rows": ["1:2 1:3"]}).encode()
    request = urllib.request.Request(
        f"{compose.served_at}/predict", body, {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        served: dict[str, Any] = json.load(answer)
    return served


def prepare(folder: Path, days: int) -> list[Path]:
    """Data, model and config as they are mounted; returns the donefiles of each split, which are taken away."""
    shutil.rmtree(folder, ignore_errors=True)
    config = prepare_demo(folder, days)
    raw = yaml.safe_load(config.path.read_text())
    raw["runner"] |= {"train_data_dir": "/data", "model_save_path": "/model", "model_dir": "/job/slot_dnn"}
    raw["stream"] |= {"servers": 2, "workers": 2, "spool_dir": "/spool", "state_dir": "/state"}
    raw["kafka"] = {"bootstrap.servers": "kafka:9092"}
    job = folder / "job"
    job.mkdir()
    (folder / "slot_dnn").rename(job / "slot_dnn")
    (job / "config_online.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    config.path.unlink()
    donefiles = sorted((folder / "data").glob("*/*/data.done"))
    for donefile in donefiles:
        donefile.unlink()
    return donefiles


def let_time_pass(donefiles: list[Path]) -> None:
    for index, donefile in enumerate(donefiles):
        if index and donefile.parent.parent != donefiles[index - 1].parent.parent:
            time.sleep(DAY_S)
        donefile.touch()


def started(record: dict[str, Any]) -> float:
    """When the pass's first row was trained."""
    return float(record["ended"] - (record["checkpoint_seconds"] or 0) - record["train_seconds"])


def wait_for(what: str, condition: Any, seconds: float) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.5)
    return value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--dir", type=Path, default=ROOT / "compose-run")
    parser.add_argument("--build", type=Path, default=ROOT / "build")
    arguments = parser.parse_args()
    if shutil.which("docker") is None:
        raise SystemExit("there is no docker here")
    donefiles = prepare(arguments.dir, arguments.days)
    compose = Compose(arguments.dir)
    try:
        compose("build", "bridge", capture=False)
        compose("up", "-d", capture=False)
        report = play(compose, donefiles)
    except BaseException:
        print(compose("logs", "--tail", "40", check=False))
        raise
    finally:
        compose("down", "-v", "--timeout", "5", check=False)
    arguments.build.mkdir(parents=True, exist_ok=True)
    (arguments.build / "compose.json").write_text(json.dumps(report, indent=2) + "\n")
    (arguments.build / "compose.md").write_text(markdown(report))
    print(markdown(report))
    return 0 if report["recount"]["ok"] else 1


def play(compose: Compose, donefiles: list[Path]) -> dict[str, Any]:
    time_passes = threading.Thread(target=let_time_pass, args=(donefiles,), daemon=True)
    time_passes.start()
    wait_for("the first passes", lambda: len(compose.passes()) >= 3, 180)
    crashes = []
    for service in VICTIMS:
        moment = compose.crash(service)
        print(f"{service} crashed after {len(compose.passes())} passes", flush=True)

        def after(moment: float = moment) -> float | None:
            later = [started(r) - moment for r in compose.passes() if r["rows"] and started(r) > moment + 2]
            return min(later) if later else None

        seconds = wait_for(f"a pass after the crash of {service}", after, 120)
        crashes.append({"service": service, "seconds": round(seconds, 1)})
        print(f"{service}: the next row was trained after {seconds:.1f} s", flush=True)
        time.sleep(3)
    time_passes.join()

    def all_ended() -> bool:
        return all(compose.inspect(role, ".State.Status") == "exited" for role in ROLES)

    wait_for("the end of all roles", all_ended, 300)
    served = ask(compose)
    codes = {role: int(compose.inspect(role, ".State.ExitCode")) for role in ROLES}
    if any(codes.values()):
        raise SystemExit(f"a role ended with an error: {codes}")
    restarts = {service: int(compose.inspect(service, ".RestartCount")) for service in (*ROLES, "bridge", "kafka")}
    text = compose("run", "--rm", "tools", "recount", "-m", "/job/config_online.yaml", "--json", check=False)
    return {
        "crashes": crashes, "restarts": restarts, "passes": len(compose.passes()), "recount": json.loads(text),
        "served": served,
    }  # fmt: skip


def markdown(report: dict[str, Any]) -> str:
    found = report["recount"]
    lines = ["| crashed container | seconds to the next trained row |", "| --- | --- |"]
    lines += [f"| {c['service']} | {c['seconds']} |" for c in report["crashes"]]
    lines.append(
        f"\n{report['passes']} passes, {found['rows']:,} rows, {found['keys']:,} keys: lost {found['lost']}, "
        f"duplicated {found['duplicated']}. Restarts by Docker: {report['restarts']}. Served at the end: the model of "
        f"logs up to {report['served']['model']['event_time']}."
    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
