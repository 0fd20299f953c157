"""PPO's arithmetic once more, in NumPy, float64 and loops: slow and hard to get wrong.

Written from the equations; shares no code with the package.
"""

import math
from typing import Any

import numpy as np


def gae(
    reward, done, value, last_value, gamma, gae_lambda, truncated=None, final=None
) -> np.ndarray:
    steps, num_envs = reward.shape
    advantage = np.zeros((steps, num_envs))
    for n in range(num_envs):
        for t in range(steps):
            # The sum over the rest of the rollout, straight from the definition.
            weight = 1.0
            for k in range(t, steps):
                following = last_value[n] if k == steps - 1 else value[k + 1, n]
                if done[k, n]:
                    cut = truncated is not None and truncated[k, n]
                    following = final[k, n] if cut else 0.0
                delta = reward[k, n] + gamma * following - value[k, n]
                advantage[t, n] += weight * delta
                if done[k, n]:
                    break
                weight *= gamma * gae_lambda
    return advantage


def forward(network: dict[str, Any], x: np.ndarray, activation: str) -> list[list]:
    """The outputs of each layer for one observation."""
    layers = []
    depth = len(set(network) - {"log_std"})
    for i in range(depth):
        kernel, bias = network[f"Dense_{i}"]["kernel"], network[f"Dense_{i}"]["bias"]
        outputs = []
        for j in range(len(bias)):
            total = bias[j] + sum(x[k] * kernel[k, j] for k in range(len(x)))
            if i < depth - 1:
                total = max(total, 0.0) if activation == "relu" else math.tanh(total)
            outputs.append(total)
        layers.append(outputs)
        x = np.array(outputs)
    return layers


def judge(actor, observation, action, activation) -> tuple[float, float]:
    """Log-probability of an action, and the entropy of the policy."""
    outputs = forward(actor, observation, activation)[-1]
    if "log_std" not in actor:
        total = sum(math.exp(x) for x in outputs)
        probs = [math.exp(x) / total for x in outputs]
        return math.log(probs[action]), -sum(p * math.log(p) for p in probs)
    log_prob = entropy = 0.0
    for mean, log_std, a in zip(outputs, actor["log_std"], action, strict=True):
        std = math.exp(log_std)
        density = math.exp(-(((a - mean) / std) ** 2) / 2) / (std * math.tau**0.5)
        log_prob += math.log(density)
        entropy += 0.5 * math.log(math.tau * math.e * std**2)
    return log_prob, entropy


def a2c_loss(params, batch, config) -> float:
    size = len(batch.action)
    total = 0.0
    for b in range(size):
        x = batch.observation[b]
        log_prob, entropy = judge(
            params["actor"], x, batch.action[b], config.activation
        )
        (v,) = forward(params["critic"], x, config.activation)[-1]
        total -= log_prob * batch.advantage[b] / size
        total += config.vf_coef * 0.5 * (v - batch.target[b]) ** 2 / size
        total -= config.ent_coef * entropy / size
    return total


def loss(params, batch, config) -> float:
    size = len(batch.action)
    mean = sum(batch.advantage) / size
    std = math.sqrt(sum((a - mean) ** 2 for a in batch.advantage) / size)
    policy = value = entropy = 0.0
    for b in range(size):
        log_prob, h = judge(
            params["actor"], batch.observation[b], batch.action[b], config.activation
        )
        ratio = math.exp(log_prob - batch.log_prob[b])
        bounded = min(max(ratio, 1 - config.clip_eps), 1 + config.clip_eps)
        advantage = (batch.advantage[b] - mean) / (std + 1e-8)
        policy -= min(ratio * advantage, bounded * advantage) / size
        entropy += h / size
        layers = forward(params["critic"], batch.observation[b], config.activation)
        (v,) = layers[-1]
        old = batch.value[b]
        near = min(max(v, old - config.clip_eps), old + config.clip_eps)
        target = batch.target[b]
        value += 0.5 * max((v - target) ** 2, (near - target) ** 2) / size
    return policy + config.vf_coef * value - config.ent_coef * entropy


def dormancy(params, batch, config) -> dict[str, dict[str, np.ndarray]]:
    result: dict[str, dict[str, np.ndarray]] = {}
    for name, network in params.items():
        runs = [forward(network, x, config.activation) for x in batch.observation]
        result[name] = {}
        if "log_std" in network:
            result[name]["log_std"] = np.ones(())
        for i in range(len(runs[0])):
            width = len(runs[0][i])
            level = [
                sum(abs(run[i][j]) for run in runs) / len(runs) + 1e-11
                for j in range(width)
            ]
            share = [width * x / sum(level) for x in level]
            result[name][f"Dense_{i}"] = np.array(share)
    return result


class Running:
    """Mean and variance of all values so far, from a list of them all.

    The first entry stands for the start: weight 1e-4, mean 0, variance 1.
    """

    def __init__(self) -> None:
        self.values: list[np.ndarray] = []

    def add(self, batch) -> None:
        self.values += [np.asarray(x, float) for x in batch]

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        weight = 1e-4 + len(self.values)
        mean = sum(self.values) / weight
        squares = sum((x - mean) ** 2 for x in self.values)
        return mean, (squares + 1e-4 * (1 + mean**2)) / weight
