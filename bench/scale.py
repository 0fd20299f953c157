"""Measure a small campaign on 1 and 2 devices and workers, and predict large ones.

    python -m bench.scale --cores 0 1 --out results/scale.json

Each campaign is a process on the first of the cores, as many as it has devices or
workers, and the other measurements are processes on the last core. In the model, one
scheduler hands out the tasks of a generation, a worker that is free takes the next one,
and tasks take as long as measured ones, relative to their median. ``--model FILE``
repeats the predictions with the measurements of a report.
"""

import argparse
import collections
import contextlib
import heapq
import io
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import distributed
import jax
import jax.numpy as jnp
import numpy as np

from bench.overhead import print_table
from learned_opt_rl.agents.rollouts import all_finite
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_json
from learned_opt_rl.rundir.cluster import connected
from learned_opt_rl.rundir.provenance import provenance
from learned_opt_rl.training.evolution import EvolutionConfig, preset
from learned_opt_rl.training.evolution.campaign import Campaign, Execution
from learned_opt_rl.training.evolution.fitness import Evaluator

SMALL = "open-breakout-cpu"  # what is measured, with 8 members and 4 generations
FEW = {"population": 8, "generations": 4, "validate_every": 4, "validation_seeds": 2}
CAMPAIGNS = ("open-breakout", "open-minatar-student", "open-breakout-recurrent")
WORKERS = (1, 8, 64, 1000)
TASK_SECONDS = (0.1, 1.0, 10.0, 100.0)
PER_WORKER = 4  # tasks, in the table of limits
SLOW = 10  # every tenth worker has half the speed
TICK = 0.5  # seconds between two looks of the client at its tasks
CALLS = 2000  # empty tasks that are timed; calls with 1 MiB: a twentieth


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, predict, print tables and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--steps", type=int, default=32_768, help="environment steps of a run")
    add("--cores", type=int, nargs="+", default=[0, 1])
    add("--bandwidth", type=float, default=125e6, help="bytes/s of the network")
    add("--price", type=float, default=0.05, help="dollars per hour of a worker")
    add("--model", type=pathlib.Path, help="report whose measurements to use")
    add("--out", type=pathlib.Path)
    add("--only", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.only:
        what, argument = options.only
        os.sched_setaffinity(0, options.cores)
        made = {"speed": speed, "calls": calls}.get(what, run)(argument, options.steps)
        whose = resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN
        own, workers = map(resource.getrusage, whose)
        made["processor"] = sum(u.ru_utime + u.ru_stime for u in (own, workers))
        made |= {"MiB": own.ru_maxrss / 1024, "worker MiB": workers.ru_maxrss / 1024}
        print(json.dumps(made))
        return
    if options.model:
        report = json.loads(options.model.read_text())
    else:
        report = measured(options.steps, options.cores)
    report |= {"bandwidth": options.bandwidth, "price": options.price}
    tables = {"checks": checks, "campaigns": campaigns, "limits": limits}
    for title, rows in tables.items():
        report[title] = rows(report)
        print_table(title, report[title])
    if options.out:
        write_json(options.out, report, indent=1)


def measured(steps: int, cores: Sequence[int]) -> dict[str, Any]:
    """Return all measurements, each made in a process with its own cores."""

    def of(what: str, argument: str, on: Sequence[int], **env: str) -> dict[str, Any]:
        program = [sys.executable, "-m", "bench.scale", "--only", what, argument]
        done = subprocess.run(
            [*program, "--steps", str(steps), "--cores", *map(str, on)],
            env=os.environ | env,
            stdout=subprocess.PIPE,
            check=True,
        )
        print(f"{what} {argument} done", file=sys.stderr, flush=True)
        return json.loads(done.stdout.splitlines()[-1])

    flag = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count="
    runs = [
        of("run", f"{count} {what}", cores[:count], XLA_FLAGS=f"{flag}{count}")
        for count in (2, 1)
        for what in ("devices", "workers")
    ]
    report: dict[str, Any] = {"cores": cores, "runs": runs}
    report["calls"] = of("calls", "1", cores[-1:])
    # Compiled anew, because compilation is measured, too.
    cold = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    report["speeds"] = [of("speed", name, cores[-1:], **cold) for name in CAMPAIGNS]
    return provenance() | report


def run(place: str, steps: int) -> dict[str, Any]:
    """Return the costs of a small campaign on ``N devices`` or ``N workers``."""
    count, what = place.split()
    config = preset(SMALL, horizons=((0, steps),), **FEW)
    with contextlib.ExitStack() as stack:
        execution: Execution = Execution(devices=int(count))
        client: Any = None
        if what == "workers":
            cluster = stack.enter_context(connected(f"local:{count}"))
            execution = Execution(cluster=cluster)
            client = distributed.Client(cluster.address, set_as_default=False)
            stack.enter_context(client).get_task_stream()  # begins to record
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        started = time.perf_counter()
        Campaign(config, folder, execution, stream=io.StringIO()).run()
        seconds = time.perf_counter() - started
        log = jsonl.read(folder / "log.jsonl")
        stream = client.get_task_stream() if client else ()
    spans = [one for task in stream for one in task["startstops"]]
    spans = [one["stop"] - one["start"] for one in spans if one["action"] == "compute"]
    return {
        "run on": place,
        "seconds": seconds,
        "generations": [row["seconds"] for row in log if "seconds" in row],
        "tasks": spans[int(count) :],  # a worker's first task compiles
    }


def speed(name: str, steps: int) -> dict[str, Any]:
    """Return the speed of runs of a preset in Breakout, of the processor."""
    games = ("Breakout-MinAtar",)
    config = preset(name, population=2, horizons=((0, steps),), environments=games)
    began = time.process_time()
    evaluator = Evaluator(config, steps, block=1)
    spent = [time.process_time() - began]
    keys = jax.random.split(jax.random.key(0), 2)
    for _ in range(3):
        began = time.process_time()
        evaluator.returns(jnp.zeros((2, config.learned.size)), keys)
        spent.append(time.process_time() - began)
    each = 2 * config.steps_per_member(steps)
    found = {"preset": name, "compile_seconds": spent[0]}
    return found | {"steps_per_second": each / statistics.median(spent[1:])}


def calls(workers: str, steps: int) -> dict[str, Any]:
    """Return the processor seconds of client and scheduler for a task and a MiB."""
    del steps
    small, found = np.zeros(1, np.uint8), {}
    mebibyte = np.random.default_rng(0).integers(0, 256, 2**20, np.uint8)
    with connected(f"local:{workers}") as cluster:
        list(cluster.outcomes(all_finite, [(small,), (mebibyte,)]))
        for name, sent, number in (
            ("task", small, CALLS),
            ("mib", mebibyte, CALLS // 20),
        ):
            began = time.process_time()
            list(cluster.outcomes(all_finite, [(sent,)] * number))
            found[f"{name}_seconds"] = (time.process_time() - began) / number
    return found


def stage(times: np.ndarray, speeds: np.ndarray, per_task: float) -> float:
    """Return the seconds until all tasks have ended.

    The worker that is free first gets the next task; the scheduler needs ``per_task``
    seconds for each.
    """
    free = [(0.0, worker) for worker in range(len(speeds))]
    served = 0.0
    for seconds in times:
        at, worker = heapq.heappop(free)
        served = max(served, at) + per_task
        heapq.heappush(free, (served + seconds / speeds[worker], worker))
    return max(free)[0]


def ladder(
    report: Any, tasks: int, workers: int, seconds: float, mib: float = 0.01
) -> dict[str, float]:
    """Return the seconds of a stage: computing, then with more limits."""
    times = [np.array(r["tasks"]) for r in report["runs"] if r["tasks"]]
    spread = np.concatenate([each / np.median(each) for each in times])
    drawn = seconds * np.random.default_rng(0).choice(spread, tasks)
    same, mixed = np.ones(workers), np.ones(workers)
    mixed[SLOW - 1 :: SLOW] = 0.5
    one = report["calls"]["task_seconds"]
    sent = mib * (report["calls"]["mib_seconds"] + 2**20 / report["bandwidth"])
    found = {
        "computing": drawn.sum() / workers,
        "few tasks": stage(np.full(tasks, drawn.mean()), same, 0),
        "unequal tasks": stage(drawn, same, 0),
        "slow workers": stage(drawn, mixed, 0),
        "scheduler": stage(drawn, mixed, one),
        "network": stage(drawn, mixed, one + sent),
    }
    return found | {"polling": found["network"] + TICK / 2}


def bound(found: dict[str, float]) -> str:
    """Return the share of computing, and the limit that adds most seconds."""
    names, seconds = list(found), list(found.values())
    share = round(100 * seconds[0] / seconds[-1])
    limit = names[1 + int(np.argmax(np.diff(seconds)))]
    return f"{share} %" if share > 98 else f"{share} %, {limit}"


def checks(report: Any) -> list[dict[str, Any]]:
    """Return the seconds of a generation, measured and predicted.

    Predictions use the generations of one device, and the tasks of the same workers.
    """
    runs = {run["run on"]: run for run in report["runs"]}
    single = statistics.median(runs["1 devices"]["generations"])
    found = []
    for place, run in sorted(runs.items()):
        count, members = int(place.split()[0]), FEW["population"]
        predicted = single * math.ceil(members / count) / members
        row: dict[str, Any] = {"run_on": place.removesuffix("s" * (count == 1))}
        row["task_seconds"] = "-"
        if run["tasks"]:
            task = statistics.median(run["tasks"])
            row["task_seconds"] = round(task, 2)
            one, times = report["calls"]["task_seconds"], np.full(members, task)
            predicted = stage(times, np.ones(count), one) + TICK / 2
        row["seconds"] = round(statistics.median(run["generations"]), 2)
        row |= {"predicted": round(predicted, 2), "campaign_seconds": run["seconds"]}
        row |= {"processor_seconds": run["processor"], "MiB": run["MiB"]}
        row["worker_MiB"] = run["worker MiB"] if run["tasks"] else 0
        found.append({k: _rounded(v) for k, v in row.items()})
    return found


def _rounded(value: Any) -> Any:
    return round(value) if isinstance(value, float) and value > 9 else value


def stages_of(config: EvolutionConfig) -> list[tuple[int, int]]:
    """Return the tasks of each generation and validation, and the steps of a task."""
    members, seeds = config.population * config.rollouts, config.validation_seeds
    found = [(seeds, config.steps_per_member(config.horizon(0)))]
    for generation in range(config.generations):
        steps = config.steps_per_member(config.horizon(generation))
        found.append((members, steps))
        if config.validation_due(generation + 1):
            found.append((seeds, steps))
    return found


def campaigns(report: Any) -> list[dict[str, Any]]:
    """Return hours, gigabytes and dollars of whole campaigns."""
    found = []
    for made in report["speeds"]:
        config = preset(made["preset"])
        listed = stages_of(config)
        stages, last = collections.Counter(listed), listed[-2]  # a validation follows
        for workers in WORKERS:
            mib, rate = config.learned.size / 2**18, made["steps_per_second"]
            of = {
                (tasks, steps): ladder(report, tasks, workers, steps / rate, mib)
                for tasks, steps in stages
            }
            hours = sum(k * of[one]["polling"] for one, k in stages.items()) / 3600
            hours += made["compile_seconds"] / 3600
            found.append(
                {
                    "campaign": made["preset"],
                    "steps": f"{sum(math.prod(one) for one in stages.elements()):.1e}",
                    "workers": workers,
                    "hours": f"{hours:,.1f}",
                    "dollars": f"{hours * workers * report['price']:,.0f}",
                    "GiB": round(workers * made["MiB"] / 1024),
                    "computing": bound(of[last]),
                }
            )
    return found


def limits(report: Any) -> list[dict[str, Any]]:
    """Return the share of computing, and the largest limit, by length of a task."""
    return [
        {"task_seconds": seconds}
        | {
            f"{n}_workers": bound(ladder(report, PER_WORKER * n, n, seconds))
            for n in WORKERS[1:]
        }
        for seconds in TASK_SECONDS
    ]


if __name__ == "__main__":
    main()
