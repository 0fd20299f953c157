"""Sample what a rule does over grids of its inputs, for pictures and the explorer.

    LEARNED_OPT_RL_CACHE=FOLDER python docs/_surfaces.py goldie2024/ant ...

Samples of bundled rules are computed when the documentation is built. The command
stores those of remote rules, whose weights a build does not fetch, in ``results``.
"""

import hashlib
import json
import pathlib
import sys
from typing import Any

import jax
import numpy as np
import optax

from learned_opt_rl import artifacts
from learned_opt_rl.artifacts import Artifact, Card, remote
from learned_opt_rl.evaluation.pictures.artifact import optimizer_factory, probe
from learned_opt_rl.rules import drifts, losses, lpg
from learned_opt_rl.rules.drifts import Drift

STORED = pathlib.Path(__file__).resolve().parent.parent / "results" / "surfaces"

PROGRESS = (0.0, 0.25, 0.5, 0.75, 0.95)
DORMANCIES = (0.0, 1.0, 4.0)
SCALE, SIZE = 1e-2, 21
# From above 0, where log r is infinite; without 0.8 and 1.2, where PPO's slope jumps.
RATIOS = np.linspace(0.06, 1.99, 78, dtype=np.float32)
ADVANTAGES = np.linspace(-3, 3, 13, dtype=np.float32)
# A reward at one step in the middle of a rollout, on which an update rule looks back.
STEPS, REWARDED = 20, 14

_STEPS_OF_PANELS = 999  # integers of a panel: three digits, and short in a file

Samples = dict[str, Any]


class Surfaces:
    """Samples of rules, kept between builds under a digest of their sources."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Keep the samples in ``folder``."""
        self._folder = folder
        self._code = _digest(pathlib.Path(__file__).read_bytes())

    def of(self, card: Card) -> Samples | None:
        """Return the samples of an artifact; None if its weights are not at hand."""
        if card.is_remote and not remote.is_cached(card):
            return read_stored(card)
        key = json.dumps([self._code, card.name, card.weights.sha256])
        path = self._folder / f"{_digest(key.encode())}.json"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(sample(artifacts.load(card.name))), "utf-8")
        return json.loads(path.read_text("utf-8"))


def read_stored(card: Card) -> Samples | None:
    """Return the stored samples of these weights, if there are any."""
    path = _stored(card)
    if not path.exists():
        return None
    found = json.loads(path.read_text("utf-8"))
    return found if found["sha256"] == card.weights.sha256 else None


def sample(artifact: Artifact) -> Samples:
    """Sample an artifact of any kind."""
    kind = artifact.card.kind
    if kind == "optimizer":
        return sample_optimizer(optimizer_factory(artifact))
    rule = artifacts.rule_module(artifact.card.algorithm).from_artifact(artifact)
    if kind == "drift":
        return sample_drift(rule)
    return _sample_update_rule(rule.with_policy_sign("descend"))


def sample_optimizer(tx_factory: Any) -> Samples:
    """Sample updates: ``[progress, dormancy]`` panels, momentum by gradient."""
    options = {"scale": SCALE, "size": SIZE, "seeds": 16}
    found = probe(
        tx_factory, training_proportions=PROGRESS, dormancies=DORMANCIES, **options
    )
    panels = found.updates.reshape(-1, SIZE * SIZE)
    return {"kind": "optimizer", **_encode(panels)}


def sample_adam() -> Samples:
    """Sample Adam with a learning rate of 1."""
    return sample_optimizer(lambda key: optax.adam(1.0))


def sample_drift(drift: Drift) -> Samples:
    """Sample the drift and dL/dr: a panel each, advantage by ratio."""
    ratio, advantage = np.meshgrid(RATIOS, ADVANTAGES)

    def total(ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        return losses.policy_loss_terms(ratio, advantage, drift).sum()

    slopes = jax.grad(total)(*map(jax.numpy.asarray, (ratio, advantage)))
    panels = np.stack([drift(ratio, advantage), slopes]).reshape(2, -1)
    return {"kind": "drift", **_encode(panels)}


def sample_ppo() -> Samples:
    """Sample PPO's clip."""
    return sample_drift(drifts.ppo())


def _sample_update_rule(rule: lpg.UpdateRule) -> Samples:
    """Sample the policy targets of a rollout with one reward, and of one without."""
    width = rule.architecture.target_width
    probs, y = np.full((1, STEPS), 0.5), np.full((1, STEPS, width), 1 / width)
    dones = np.arange(STEPS)[None] == REWARDED
    scalars = {"gamma": 0.99, "step": 0.0, "lifetime": 1.0}
    with_reward, without = (
        np.asarray(rule.targets(r, dones, probs, y, y, **scalars).pi_hat)
        for r in (dones.astype(np.float32), np.zeros((1, STEPS)))
    )
    return {"kind": "update_rule", **_encode(np.concatenate([with_reward, without]))}


def _encode(panels: np.ndarray) -> Samples:
    """Store panels as integers with one scale per panel; what is not finite is null."""
    panels = np.asarray(panels, float)
    finite = np.where(np.isfinite(panels), panels, 0)
    scales = np.abs(finite).max(axis=1) / _STEPS_OF_PANELS
    steps = np.rint(finite / np.where(scales == 0, 1, scales)[:, None]).astype(int)
    values = [
        [int(n) if known else None for n, known in zip(*row, strict=True)]
        for row in zip(steps, np.isfinite(panels), strict=True)
    ]
    return {"scales": [float(f"{s:.4g}") for s in scales], "values": values}


def decode(samples: Samples) -> np.ndarray:
    """Return the panels, ``[panel, point]``."""
    values = np.array(samples["values"], float)  # None is NaN
    return values * np.array(samples["scales"])[:, None]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _stored(card: Card) -> pathlib.Path:
    return STORED / f"{card.name.replace('/', '_')}.json"


def main() -> None:
    """Store the samples of the named artifacts, whose weights must be cached."""
    STORED.mkdir(parents=True, exist_ok=True)
    for name in sys.argv[1:]:
        artifact = artifacts.load(name)
        found = {"sha256": artifact.card.weights.sha256, **sample(artifact)}
        text = json.dumps(found, separators=(",", ":"))
        _stored(artifact.card).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
