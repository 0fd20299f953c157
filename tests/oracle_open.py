"""OPEN once more, slowly: one parameter at a time in float64 NumPy.

Written from the description of the method, not from the library, so that the two
can only agree by computing the same thing.
"""

import math

import numpy as np

DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)


def plain(weights):
    """Weights as float64 arrays of NumPy: entries of JAX's are slow to read."""
    if isinstance(weights, dict):
        return {name: plain(tree) for name, tree in weights.items()}
    return np.asarray(weights, float)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def affine(kernel, bias, x):
    return [
        bias[j] + sum(x[i] * kernel[i][j] for i in range(len(x)))
        for j in range(len(bias))
    ]


def layer_norm(norm, x):
    mean = sum(x) / len(x)
    variance = sum((v - mean) ** 2 for v in x) / len(x)
    scale = 1 / math.sqrt(variance + 1e-6)
    return [
        (v - mean) * scale * s + b
        for v, s, b in zip(x, norm["scale"], norm["bias"], strict=True)
    ]


def gru(weights, x, h):
    none = [0.0] * len(h)
    gate = {
        name: affine(weights[name]["kernel"], weights[name]["bias"], x)
        for name in ("ir", "iz", "in")
    }
    hidden = {
        "hr": affine(weights["hr"]["kernel"], none, h),
        "hz": affine(weights["hz"]["kernel"], none, h),
        "hn": affine(weights["hn"]["kernel"], weights["hn"]["bias"], h),
    }
    new = []
    for j in range(len(h)):
        r = sigmoid(gate["ir"][j] + hidden["hr"][j])
        z = sigmoid(gate["iz"][j] + hidden["hz"][j])
        n = math.tanh(gate["in"][j] + r * hidden["hn"][j])
        new.append((1 - z) * n + z * h[j])
    return new


def network(weights, x, h):
    if "gru" in weights:
        h = x = gru(weights["gru"], x, h)
    for i in ("0", "1"):
        layer = weights["mlp"]["dense_" + i]
        x = affine(layer["kernel"], layer["bias"], x)
        x = [max(v, 0.0) for v in layer_norm(weights["mlp"]["norm_" + i], x)]
    last = weights["mlp"]["dense_2"]
    return affine(last["kernel"], last["bias"], x), h


def leaf_features(p, g, m, position, dormancy, t_p, b_p):
    """Rows of 19 features for one leaf; p, g [n], m [n][6], dormancy [n]."""
    rows = []
    for i in range(len(p)):
        row = [p[i]]
        row += [float(np.sign(v)) for v in m[i]]
        row += [math.log(abs(v) + 1e-13) for v in m[i]]
        row += [float(np.sign(g[i])), math.log(abs(g[i]) + 1e-13)]
        rows.append(row)
    for column in range(15):
        square = sum(row[column] ** 2 for row in rows) / len(rows)
        for row in rows:
            row[column] /= math.sqrt(1e-5 + square)
    return [
        [*row, t_p, position, b_p, d] for row, d in zip(rows, dormancy, strict=True)
    ]


def step(weights, leaves, t_p, b_p):
    """One optimiser step.

    Each leaf is a dict: p, g (arrays), m (shape + [6]), h (shape + [G]) or None,
    position, dormancy (scalar or last axis). Returns updates, momenta, carries.
    """
    weights, updates, momenta, carries = plain(weights), [], [], []
    for leaf in leaves:
        shape = leaf["p"].shape
        p = leaf["p"].astype(np.float64).reshape(-1)
        g = leaf["g"].astype(np.float64).reshape(-1)
        b = np.array(DECAYS, np.float32)  # the method's constants are float32
        m = leaf["m"].reshape(p.size, 6) * np.float64(b)
        m = m + np.float64(1 - b) * g[:, None]
        d = np.broadcast_to(leaf["dormancy"], shape).reshape(-1)
        rows = leaf_features(p, g, m, leaf["position"], d, t_p, b_p)
        h = leaf["h"]
        h = [None] * p.size if h is None else h.reshape(p.size, -1).tolist()
        results = [network(weights, row, hi) for row, hi in zip(rows, h, strict=True)]
        u = [1e-3 * o[0] * math.exp(1e-3 * o[1]) for o, _ in results]
        updates.append(np.array(u).reshape(shape))
        momenta.append(m.reshape(*shape, 6))
        if leaf["h"] is not None:
            carries.append(np.array([hi for _, hi in results]).reshape(*shape, -1))
    mean = sum(u.sum() for u in updates) / sum(u.size for u in updates)
    return [-(u - mean) for u in updates], momenta, carries
