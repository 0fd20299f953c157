"""The card of the distilled ``minatar``: it says what the artifact is, and is not."""

from collections.abc import Mapping
from typing import Any

from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.features import DECAYS

INPUTS = (
    "parameter",
    *(f"sign of momentum {decay:g}" for decay in DECAYS),
    *(f"log of momentum {decay:g}" for decay in DECAYS),
    "sign of gradient",
    "log of gradient",
    "training proportion",
    "layer proportion",
    "batch proportion",
    "dormancy",
)


def minatar_card(
    report: Mapping[str, Any], sha256: str, parameters: int
) -> dict[str, Any]:
    """The card without results, which ``evaluation.cards`` adds.

    Args:
        report: What ``distillation.main`` printed: ``step_size``,
            ``relative_error``, ``width``, ``steps``, ``sweep``.
        sha256: Digest of the weights file.
        parameters: Number of weights.

    Returns:
        The card's dictionary, which satisfies the schema.
    """
    horizon = PPOConfig().horizon()
    card = {
        "schema": 1,
        "name": "minatar",
        "kind": "optimizer",
        "title": "OPEN for MinAtar, distilled from annealed sign-momentum",
        "summary": "Feed-forward OPEN that imitates annealed sign-momentum; a plain "
        "default for PPO agents until evolved weights replace it.",
        "algorithm": "open",
        "representation": "network",
        "architecture": {"type": "feed_forward", "width": report["width"]},
        "inputs": list(INPUTS),
        "horizon": {
            "total_updates": horizon.total_updates,
            "epochs": horizon.epochs,
            "minibatches": horizon.minibatches,
        },
        "training": {
            "method": "distillation",
            "environments": [],
            "description": (
                f"Supervised: the network imitates u = c * (1 - t_p) * sgn(m_0.9), "
                f"c = {report['step_size']:g}, on synthetic tensors for "
                f"{report['steps']} Adam steps; relative rms error "
                f"{report['relative_error']:.3f}. c is the best single constant over "
                f"four MinAtar games at 1e6 steps, of three around Lion's tuned rates "
                f"({report['sweep']}). Nothing was meta-learned: no reinforcement "
                "learning took part beyond the choice of c."
            ),
            "command": "python -m learned_opt_rl.training.distillation "
            "--out pretrained/minatar",
            "compute": "minutes on one CPU core",
            "source": None,
        },
        "license": "Apache-2.0",
        "citation": {
            "text": 'X. Chen et al., "Symbolic Discovery of Optimization Algorithms", '
            "2023 (Lion, of which the teacher is a form); architecture: A. D. Goldie "
            'et al., "Can Learned Optimization Make Reinforcement Learning Less '
            'Difficult?", 2024.',
            "url": "https://arxiv.org/abs/2302.06675",
        },
        "weights": {
            "file": "weights.safetensors",
            "sha256": sha256,
            "parameters": parameters,
            "format": "safetensors",
        },
        "results": [],
        "known_failures": [
            "It knows nothing its teacher does not: dormancy, layer, batch proportion "
            "and parameter values do not change the update beyond the error of "
            "imitation, and it adds no exploration noise.",
            "Every parameter with a gradient moves by about the same step, so the best "
            "constant differs between games and networks; one was chosen for four.",
            "Past the horizon the training proportion is 1 and the step almost 0: pass "
            "horizon= for the length of your own run.",
            "It costs far more per update than the formula it imitates; it is here as "
            "the start of evolution.",
            "On Breakout at 1e6 steps it ends well below tuned Adam.",
            "Its constant is the largest of the three that were tried.",
        ],
    }
    Card.from_dict(card, source="minatar_card")
    return card
