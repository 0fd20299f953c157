"""No Features once more, slowly: one parameter at a time in float64 NumPy."""

import math

import numpy as np

from tests.oracle_open import DECAYS, network, plain


def leaf_features(p, g, m, recurrent):
    """Rows of 14 or 8 features for one leaf; p, g [n], m [n][6]."""
    rows = []
    for i in range(len(p)):
        if recurrent:
            row = [float(np.sign(v)) for v in m[i]]
            row += [math.log(abs(v) + 1e-13) for v in m[i]]
            row += [float(np.sign(g[i])), math.log(abs(g[i]) + 1e-13)]
        else:
            row = [p[i], *m[i], g[i]]
        rows.append(row)
    for column in range(len(rows[0])):
        square = sum(row[column] ** 2 for row in rows) / len(rows)
        for row in rows:
            row[column] /= math.sqrt(1e-5 + square)
    return rows


def step(weights, leaves):
    """One optimiser step.

    Each leaf is a dict: p, g (arrays), m (shape + [6]), h (shape + [G]) or None.
    Returns updates, momenta, carries.
    """
    weights, updates, momenta, carries = plain(weights), [], [], []
    for leaf in leaves:
        shape = leaf["p"].shape
        p = leaf["p"].astype(np.float64).reshape(-1)
        g = leaf["g"].astype(np.float64).reshape(-1)
        b = np.array(DECAYS, np.float32)  # the method's constants are float32
        m = leaf["m"].reshape(p.size, 6) * np.float64(b)
        m = m + np.float64(1 - b) * g[:, None]
        h = leaf["h"]
        rows = leaf_features(p, g, m, h is not None)
        h = [None] * p.size if h is None else h.reshape(p.size, -1).tolist()
        results = [network(weights, row, hi) for row, hi in zip(rows, h, strict=True)]
        u = [1e-3 * o[0] * math.exp(1e-3 * o[1]) for o, _ in results]
        updates.append(np.array(u).reshape(shape))
        momenta.append(m.reshape(*shape, 6))
        if leaf["h"] is not None:
            carries.append(np.array([hi for _, hi in results]).reshape(*shape, -1))
    mean = sum(u.sum() for u in updates) / sum(u.size for u in updates)
    return [-(u - mean) for u in updates], momenta, carries
