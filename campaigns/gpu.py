"""Use a GPU that is lent for ten minutes: check numbers, measure speed, then evolve.

Run as ``python -m campaigns.gpu --out FOLDER``. Repeat the command with the same folder
to resume. Finished steps are skipped, and the evolution continues. Each step is a
separate command, so a failed step does not lose other results.
"""

import argparse
import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl import Horizon, artifacts, pretrained
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically, write_json
from learned_opt_rl.rundir.provenance import provenance

TOLERANCE = 1e-4
"""Largest difference of an update between a device and the CPU, relative to its rms."""

_SAVING = 30.0  # seconds that an interrupted step has to save its state
_INTERRUPTED = 130, -signal.SIGINT  # as the command line exits, and as Python does


class Step(NamedTuple):
    """A command and its share of the time; an endless one runs until it is stopped."""

    name: str
    command: tuple[str, ...]
    share: float
    endless: bool = False


def main(argv: Sequence[str] | None = None) -> None:
    """Run unfinished steps within the time limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=540, help="limit of all steps")
    parser.add_argument("--preset", default="open-minatar-student", help="to evolve")
    parser.add_argument("--set", nargs="*", default=[], help="settings of the preset")
    parser.add_argument("--tiny", action="store_true", help="rehearse on a CPU")
    parser.add_argument("--only", choices=["correctness"], help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.seconds <= 2 * _SAVING:
        parser.error(
            f"--seconds {arguments.seconds:g} must be above {2 * _SAVING:g}; give 540"
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.only:
        if jax.default_backend() == "cpu" and not arguments.tiny:
            parser.error("jax finds no GPU; give --tiny to rehearse on the CPU")
        correctness(arguments.out / "correctness.json")
        return
    end = time.monotonic() + arguments.seconds
    marks = arguments.out / "finished.json"
    failed = [step.name for step in steps(arguments) if not run(step, end, marks)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see the output above")


def steps(arguments: argparse.Namespace) -> list[Step]:
    """Return what to run, in order; the evolution takes the time that is left."""
    out, python = arguments.out, (sys.executable, "-m")
    tiny = ("--tiny",) if arguments.tiny else ()
    size = ("--agents", "1", "64")
    if arguments.tiny:
        size = ("--agents", "1", "--steps", "16384", "--repetitions", "1")
    this = ("campaigns.gpu", "--only", "correctness", "--out", str(out), *tiny)
    bench = ("bench.overhead", "--out", str(out / "overhead.json"), *size)
    train = ("learned_opt_rl", "train", "es", "--preset", arguments.preset)
    settings = ("--set", *arguments.set) if arguments.set else ()
    campaign = ("--out", str(out / "campaign"), *settings)
    return [
        Step("correctness", (*python, *this), 0.25),
        Step("overhead", (*python, *bench, "--networks", "2x64 MLP"), 0.3),
        Step("evolution", (*python, *train, *campaign), 1.0, endless=True),
    ]


def run(step: Step, end: float, marks: pathlib.Path) -> bool:
    """Run a step within its share of the time until ``end``; return if it succeeded.

    ``marks`` names the finished steps, which are not run again. A step that runs out of
    time is interrupted, so that it can save its state. This is a failure, except for an
    endless one.
    """
    finished = json.loads(marks.read_text()) if marks.exists() else []
    left = step.share * (end - time.monotonic()) - _SAVING
    if step.name in finished:
        return True
    if left <= 0:
        print(f"{step.name}: no time is left", flush=True)
        return False
    print(f"{step.name}: at most {left:.0f} s", flush=True)
    with subprocess.Popen(step.command) as process:
        try:
            code = process.wait(left)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(_SAVING)
            except subprocess.TimeoutExpired:
                process.kill()
                return False
            return step.endless and code in (0, *_INTERRUPTED)
    if code == 0:
        write_atomically(marks, json.dumps([*finished, step.name]).encode())
    return code == 0


def correctness(path: pathlib.Path) -> None:
    """Compare updates of all bundled networks with the CPU's; write them one by one.

    Raises:
        SystemExit: An update differs by more than `TOLERANCE` of its rms.
    """
    rows: list[dict[str, Any]] = []
    report = {**provenance(), "tolerance": TOLERANCE, "updates": rows}
    for name in optimizers():
        rows.append(compared(name))
        write_json(path, report, indent=1)
    wrong = [
        row["rule"]
        for row in rows
        if row["difference"] is None or row["difference"] > TOLERANCE
    ]
    if wrong:
        sys.exit(f"updates on {jax.default_backend()} differ: {', '.join(wrong)}")


def optimizers() -> list[str]:
    """Return the names of the bundled optimizers that are networks."""
    return [
        card.name
        for card in artifacts.cards().values()
        if (card.kind, card.representation) == ("optimizer", "network")
        and not card.is_remote
    ]


def compared(name: str) -> dict[str, Any]:
    """Run ten updates of one optimizer on the default device and on the CPU.

    Returns:
        ``rule``, and the largest relative ``difference`` of a leaf; None if an update
        is not finite.
    """
    tx = pretrained(name, horizon=Horizon(10, 1, 1))
    rng = np.random.default_rng(0)
    params = {
        "actor": {"kernel": rng.normal(size=(400, 64)), "bias": rng.normal(size=64)},
        "critic": {"kernel": rng.normal(size=(64, 64))},
    }
    params = jax.tree.map(np.float32, params)

    def ten(params: Any) -> Any:
        def step(state: Any, i: jax.Array) -> tuple[Any, Any]:
            grads = jax.tree.map(lambda p: jnp.sin(p * (i + 1.0)), params)
            updates, state = tx.update(grads, state, params)
            return state, updates

        return jax.lax.scan(step, tx.init(params), jnp.arange(10))[1]

    def on(device: jax.Device) -> list[np.ndarray]:
        with jax.default_device(device):
            found = jax.jit(ten)(jax.device_put(params, device))
        return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(found)]

    pairs = zip(on(jax.devices()[0]), on(jax.devices("cpu")[0]), strict=True)
    worst = np.max([np.sqrt(((a - b) ** 2).mean() / (b**2).mean()) for a, b in pairs])
    return {"rule": name, "difference": jsonl.number(worst)}


if __name__ == "__main__":
    main()
