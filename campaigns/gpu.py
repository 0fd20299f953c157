"""Use a GPU that is lent for ten minutes: check, measure, then evolve from a start.

Run as ``python -m campaigns.gpu --out FOLDER``. Repeat the command with the same folder
to go on: steps that are done are skipped, and the evolution resumes. Steps are commands
of their own, so that one that fails leaves the others' results.
"""

import argparse
import dataclasses
import json
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl import Horizon, artifacts, pretrained
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.provenance import provenance

TOLERANCE = 1e-4
"""Largest difference of an update between a device and the CPU, relative to its rms."""

_SAVING = 30.0  # seconds that an interrupted step has to save its state


@dataclasses.dataclass(frozen=True)
class Step:
    """A command, the file that it leaves when it is done, and its share of the time."""

    name: str
    command: tuple[str, ...]
    done: pathlib.Path | None
    share: float


def main(argv: Sequence[str] | None = None) -> None:
    """Run the steps that are not done yet, within the time."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--seconds", type=float, default=540, help="of the whole run")
    parser.add_argument("--preset", default="open-minatar-student", help="to evolve")
    parser.add_argument("--set", nargs="*", default=[], help="settings of the preset")
    parser.add_argument("--tiny", action="store_true", help="rehearse on a CPU")
    parser.add_argument("--only", choices=["correctness"], help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.seconds <= 2 * _SAVING:
        parser.error(f"--seconds {arguments.seconds:g} must be above {2 * _SAVING:g}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.only:
        correctness(arguments.out / "correctness.json")
        return
    end = time.monotonic() + arguments.seconds
    failed = [step.name for step in steps(arguments) if not run(step, end)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}; see the output above")


def steps(arguments: argparse.Namespace) -> list[Step]:
    """Return what to run, in order; the evolution takes the time that is left."""
    out, python = arguments.out, (sys.executable, "-m")
    check, bench = out / "correctness.json", out / "overhead.json"
    size = ("--steps", "16384", "--repetitions", "1") if arguments.tiny else ()
    networks = ("--networks", "2x64 MLP", "--leaves")
    agents = ("--agents", "1") if arguments.tiny else ("--agents", "1", "64")
    train = ("learned_opt_rl", "train", "es", "--preset", arguments.preset)
    settings = ("--set", *arguments.set) if arguments.set else ()
    this = ("campaigns.gpu", "--only", "correctness", "--out", str(out))
    overhead = ("bench.overhead", "--out", str(bench), *agents, *size, *networks)
    campaign = (*train, "--out", str(out / "campaign"), *settings)
    return [
        Step("correctness", (*python, *this), check, 0.2),
        Step("overhead", (*python, *overhead), bench, 0.3),
        Step("evolution", (*python, *campaign), None, 1.0),
    ]


def run(step: Step, end: float) -> bool:
    """Run a step within its share of the time until ``end``; return whether it is well.

    A step that runs out of time is interrupted, and saves its state. That is the end
    of an evolution, but a failure of the others.
    """
    left = step.share * (end - time.monotonic()) - _SAVING
    if step.done is not None and step.done.exists():
        return True
    print(f"{step.name}: at most {left:.0f} s", flush=True)
    with subprocess.Popen(step.command) as process:
        try:
            return process.wait(max(left, 1)) == 0
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_SAVING)
            except subprocess.TimeoutExpired:
                process.kill()
    return step.done is None


def correctness(path: pathlib.Path) -> None:
    """Compare updates of all bundled optimizers with the CPU's; write and check them.

    Raises:
        SystemExit: An update differs by more than `TOLERANCE` of its rms.
    """
    rows = [compared(name) for name in optimizers()]
    report = {**provenance(), "tolerance": TOLERANCE, "updates": rows}
    write_atomically(path, (json.dumps(report, indent=1) + "\n").encode())
    wrong = [row["rule"] for row in rows if not row["difference"] <= TOLERANCE]
    if wrong:
        sys.exit(f"updates on {jax.default_backend()} differ: {', '.join(wrong)}")


def optimizers() -> list[str]:
    """Return the names of the bundled optimizers whose weights are a network's."""
    return [
        card.name
        for card in artifacts.cards().values()
        if (card.kind, card.representation) == ("optimizer", "network")
        and not card.is_remote
    ]


def compared(name: str) -> dict[str, Any]:
    """Run ten updates of one optimizer on the default device and on the CPU."""
    tx = pretrained(name, horizon=Horizon(10, 1, 1))
    rng = np.random.default_rng(0)
    shapes = {"actor": {"kernel": (400, 64), "bias": (64,)}, "critic": {"w": (64, 64)}}
    params = jax.tree.map(
        lambda shape: rng.normal(size=shape).astype(np.float32),
        shapes,
        is_leaf=lambda x: isinstance(x, tuple),
    )

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

    here, there = on(jax.devices()[0]), on(jax.devices("cpu")[0])
    worst = max(
        float(np.sqrt(((a - b) ** 2).mean() / max((b**2).mean(), 1e-30)))
        for a, b in zip(here, there, strict=True)
    )
    return {"rule": name, "difference": worst}


if __name__ == "__main__":
    main()
