"""Optim4RL once more, slowly: one parameter at a time in float64 NumPy."""

import math

import numpy as np

from tests.oracle_open import affine, gru, plain


def tower(weights, x, h):
    h = y = gru(weights["gru"], x, h)
    layers = weights["mlp"]
    for i in range(len(layers)):
        y = [max(v, 0.0) for v in y] if i else y
        y = affine(layers[f"dense_{i}"]["kernel"], layers[f"dense_{i}"]["bias"], y)
    return y, h


def direction(version, weights, g, h):
    """M / sqrt(V) of one scalar, and both hidden states; h is [2][H]."""
    sign = float(np.sign(g))
    if version == "arxiv2023":
        log = math.log(abs(g) + 1e-18)
        (a, b), h1 = tower(weights["tower_1"], [sign, log], h[0])
        (c,), h2 = tower(weights["tower_2"], [2 * log], h[1])
        learned = 1.0 if math.tanh(a + 1) >= 0 else -1.0
        return sign * learned * math.exp(b) / math.sqrt(math.exp(c) + 1e-18), [h1, h2]
    (b,), h1 = tower(weights["tower_1"], [g], h[0])
    (c,), h2 = tower(weights["tower_2"], [g * g], h[1])
    return sign * math.exp(b) / math.sqrt(math.exp(c) + 1e-8), [h1, h2]


def step(version, weights, learning_rate, grads, hidden, clip=None):
    """Updates and hidden states, from leaves [*shape] and [2, H, *shape]."""
    weights, updates, after = plain(weights), [], []
    for g, h in zip(grads, hidden, strict=True):
        flat = np.asarray(g, np.float64).reshape(-1)
        if clip is not None:
            flat = np.clip(flat, -clip, clip)
        states = np.asarray(h, np.float64).reshape(*h.shape[:2], -1)
        results = [
            direction(version, weights, flat[i], states[:, :, i].tolist())
            for i in range(flat.size)
        ]
        updates.append(
            np.array([-learning_rate * r for r, _ in results]).reshape(g.shape)
        )
        new = np.array([s for _, s in results])  # [n, 2, H]
        after.append(np.moveaxis(new, 0, -1).reshape(h.shape))
    return updates, after
