"""Serving: rows a second beside plain paddle.inference, memory and loading of a million keys, and latencies over HTTP
with and without a reload.

300 slots, 384 features a row, layers [512, 256, 128]. Plain paddle.inference runs the same network, one thread too,
and is fed with ready embeddings: it parses nothing and looks nothing up. Both take turns, so that they share the
machine's moods; each figure is the median of the rounds.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from rich.console import Console
from rich.table import Table as Printed

from tests.support.exports import Exports
from tests.support.networks import WIDTH, Network, make_networks

SLOTS, FEATURES, LAYERS = 300, 384, "512,256,128"
BATCHES = (1, 32, 512)
DAY, NEXT = "20240101", "20240102"


def make_rows(count: int, keys: np.ndarray, source: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """slots and feasigns, [count, FEATURES]: every slot once, the rest anywhere; one key of twenty is unknown."""
    extra = source.integers(2, SLOTS + 2, (count, FEATURES - SLOTS))
    slots = np.sort(np.concatenate([np.tile(np.arange(2, SLOTS + 2), (count, 1)), extra], axis=1), axis=1)
    feasigns = keys[source.integers(0, len(keys), slots.shape)]
    unknown = source.random(slots.shape) < 0.05
    feasigns[unknown] = source.integers(2**62, 2**63, int(unknown.sum()))
    return slots, feasigns


def as_lines(slots: np.ndarray, feasigns: np.ndarray) -> list[str]:
    rows = zip(slots.tolist(), feasigns.tolist(), strict=True)
    return [" ".join(f"{f}:{s}" for s, f in zip(*row, strict=True)) for row in rows]


class Plain:
    """paddle.inference with its defaults, one thread, and batches of ready embeddings."""

    def __init__(self, model: Path, network: Network) -> None:
        from paddle import inference

        config = inference.Config(str(model / "model" / "__model__"), str(model / "dense" / "__params__"))
        config.set_cpu_math_library_num_threads(1)
        config.disable_glog_info()
        self._predictor = inference.create_predictor(config)
        self._feeds = network.feeds

    def batch(self, slots: np.ndarray, feasigns: np.ndarray, lookup: Callable[[np.ndarray], np.ndarray]) -> list[Any]:
        ready = []
        for slot, name in self._feeds.items():
            mine = slots == slot
            ends = np.concatenate([[0], np.cumsum(mine.sum(axis=1))])
            ready.append((name, lookup(feasigns[mine]), [ends.tolist()]))
        return ready

    def run(self, batch: list[Any]) -> np.ndarray:
        for name, vectors, lod in batch:
            handle = self._predictor.get_input_handle(name)
            handle.copy_from_cpu(vectors)
            handle.set_lod(lod)
        self._predictor.run()
        return self._predictor.get_output_handle(self._predictor.get_output_names()[0]).copy_to_cpu()


def compare(model: Path, root: Path, network: Network, keys: np.ndarray, seconds: float) -> dict[str, Any]:
    from streamtrain.serving.predictor import Predictor

    begin = time.perf_counter()
    predictor = Predictor(root, threads=1)
    load = time.perf_counter() - begin
    plain = Plain(model, network)
    found: dict[str, Any] = {"keys": predictor.keys, "table_bytes": predictor.memory, "load_seconds": load}
    source = np.random.default_rng(5)
    running = predictor._freshest.running
    assert running
    (table,) = running.model.tables.values()
    for size in BATCHES:
        slots, feasigns = make_rows(size, keys, source)
        lines, ready = as_lines(slots, feasigns), plain.batch(slots, feasigns, table.lookup)
        columns = (np.full(size, FEATURES), slots.ravel(), feasigns.ravel())
        ways: dict[str, Callable[[], Any]] = {
            "plain": lambda ready=ready: plain.run(ready),
            "arrays": lambda columns=columns: predictor.predict_arrays(*columns),
            "lines": lambda lines=lines: predictor.predict(lines),
        }
        results = [np.asarray(way()).ravel() for way in ways.values()]
        assert all(np.allclose(results[0], other, atol=1e-5) for other in results[1:])
        times: dict[str, list[float]] = {name: [] for name in ways}
        ends = time.perf_counter() + seconds
        while time.perf_counter() < ends:
            for name, way in ways.items():
                begin = time.perf_counter()
                way()
                times[name].append(time.perf_counter() - begin)
        found[f"batch_{size}"] = {name: size / statistics.median(values) for name, values in times.items()}
    return found


class Load:
    """Clients that send at fixed times, over kept connections. Latency counts from when a request was due."""

    def __init__(self, port: int, bodies: list[bytes], rate: float, clients: int) -> None:
        self._port, self._bodies, self._rate, self._clients = port, bodies, rate, clients
        self.failed: list[str] = []

    def run(self, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> tuple[list[float], set[str]]:
        """Latencies in seconds, and the digests that answered; `meanwhile` runs in the middle."""
        latencies: list[float] = []
        digests: set[str] = set()
        start = time.perf_counter() + 0.1

        def client(number: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
            for index in range(number, int(seconds * self._rate), self._clients):
                due = start + index / self._rate
                time.sleep(max(0.0, due - time.perf_counter()))
                body = self._bodies[index % len(self._bodies)]
                connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                text = answer.read()
                latencies.append(time.perf_counter() - due)
                if answer.status != 200:
                    self.failed.append(text.decode())
                    return
                digests.add(orjson.loads(text)["model"]["digest"])

        threads = [threading.Thread(target=client, args=(number,)) for number in range(self._clients)]
        for thread in threads:
            thread.start()
        time.sleep(seconds / 2)
        meanwhile()
        for thread in threads:
            thread.join()
        return latencies, digests


def over_http(
    exports: Exports, networks: list[Network], keys: np.ndarray, rate: float, rows: int, seconds: float
) -> Any:
    """Three runs at one rate: nothing changes; an incremental model of 20,000 keys comes; a full one comes."""
    command = [sys.executable, "-m", "streamtrain.cli.main", "serve", "--model", str(exports.root), "--port", "0"]
    process = subprocess.Popen([*command, "--refresh-seconds", "0.5"], stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = {"requests_per_second": rate, "rows_per_request": rows}
    source = np.random.default_rng(6)
    bodies = [orjson.dumps({"rows": as_lines(*make_rows(rows, keys, source))}) for _ in range(20)]
    try:
        assert process.stdout
        port = int(process.stdout.readline().split(" ")[0].rpartition(":")[2])
        wait_for_model(port)
        load = Load(port, bodies, rate, clients=4)
        load.run(2)
        exports.listed = False
        for name in ("steady", "incremental", "full"):
            if name == "incremental":
                changed = source.choice(keys, 20_000, replace=False)
                publish(exports, changed, networks[1], NEXT, 1, "incremental")
            elif name == "full":
                publish(exports, keys, networks[0], NEXT, 2, "full")
            latencies, digests = load.run(seconds, exports.write_donefiles)
            assert not load.failed, load.failed[0]
            assert len(digests) == (1 if name == "steady" else 2), f"{name}: {digests}"
            p50, p99 = np.percentile(latencies, [50, 99])
            found[name] = {"requests": len(latencies), "p50": p50, "p99": p99, "max": max(latencies)}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
    return found


def wait_for_model(port: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "no model was loaded"
        time.sleep(0.05)


def publish(exports: Exports, keys: np.ndarray, network: Network, day: str, pass_id: int, kind: str) -> None:
    values = np.random.default_rng(pass_id).integers(-999, 999, (len(keys), WIDTH)).astype(np.float32) / 10000
    exports.publish_arrays(kind, day, pass_id, keys, values, network)


def show(found: dict[str, Any]) -> None:
    console = Console()
    table = Printed("rows/s", *(f"batch {size}" for size in BATCHES), title="Predictor beside plain paddle.inference")
    for name, label in (("plain", "plain paddle.inference"), ("arrays", "predict_arrays"), ("lines", "predict (text)")):
        table.add_row(label, *(f"{found[f'batch_{size}'][name]:,.0f}" for size in BATCHES))
    for name in ("arrays", "lines"):
        ratios = [found[f"batch_{size}"][name] / found[f"batch_{size}"]["plain"] for size in BATCHES]
        table.add_row(f"{name} / plain", *(f"{ratio:.2f}" for ratio in ratios))
    console.print(table)
    million = found["keys"] / 1e6
    console.print(
        f"{found['keys']:,} keys: {found['table_bytes'] / million / 1e6:.1f} MB and "
        f"{found['load_seconds'] / million:.2f} s of loading a million keys"
    )
    served = found["serve"]
    title = f"serve: {served['requests_per_second']:.0f} requests/s of {served['rows_per_request']} rows, ms"
    table = Printed("in the middle", "p50", "p99", "max", title=title)
    for name, label in (
        ("steady", "nothing"),
        ("incremental", "20,000 keys reloaded"),
        ("full", "a full model reloaded"),
    ):
        table.add_row(label, *(f"{served[name][k] * 1000:.1f}" for k in ("p50", "p99", "max")))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=6, help="of each measurement")
    parser.add_argument("--rate", type=float, default=40, help="requests a second")
    parser.add_argument("--rows", type=int, default=8, help="rows a request")
    parser.add_argument("--dir", type=Path, default=Path("build/serving-bench"))
    parser.add_argument("--out", type=Path, default=Path("build/serving.json"))
    arguments = parser.parse_args()
    folder = arguments.dir.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    networks = make_networks(folder / "networks", slots=SLOTS, layers=LAYERS, sets=2)
    exports = Exports(folder / "model")
    keys = np.unique(np.random.default_rng(4).integers(1, 2**62, arguments.keys, dtype=np.uint64))
    publish(exports, keys, networks[0], DAY, 0, "full")
    model = exports.root / DAY / "inference_model_0"
    found = compare(model, exports.root, networks[0], keys, arguments.seconds)
    found["text_bytes"] = sum(p.stat().st_size for p in (model / "sparse").iterdir())
    found["serve"] = over_http(exports, networks, keys, arguments.rate, arguments.rows, 2 * arguments.seconds)
    found["processors"] = os.cpu_count()
    shutil.rmtree(folder)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
    show(found)


if __name__ == "__main__":
    main()
