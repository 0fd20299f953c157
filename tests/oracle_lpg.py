"""LPG once more, slowly: one worker and one step at a time in float64 NumPy.

Written from the description of the method, not from the library, so that the two
can only agree by computing the same thing.
"""

import math

import numpy as np


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def affine(layer, x):
    kernel = np.asarray(layer["kernel"], np.float64)
    bias = layer.get("bias", np.zeros(kernel.shape[1]))
    return [
        float(bias[j]) + sum(float(x[i]) * kernel[i, j] for i in range(len(x)))
        for j in range(kernel.shape[1])
    ]


def softmax(x):
    total = sum(math.exp(v) for v in x)
    return [math.exp(v) / total for v in x]


def phi(weights, y):
    if "embedding" not in weights:
        return y[0]
    hidden = [max(v, 0.0) for v in affine(weights["embedding"]["dense_0"], y)]
    return affine(weights["embedding"]["dense_1"], hidden)[0]


def gru(gates, x, h):
    i = {g: affine(gates["i" + g], x) for g in "rzn"}
    r = {g: affine(gates["h" + g], h) for g in "rzn"}
    new = []
    for j in range(len(h)):
        reset = sigmoid(i["r"][j] + r["r"][j])
        update = sigmoid(i["z"][j] + r["z"][j])
        candidate = math.tanh(i["n"][j] + reset * r["n"][j])
        new.append((1 - update) * candidate + update * h[j])
    return new


def lstm(gates, x, h, c):
    i = {g: affine(gates["i" + g], x) for g in "igfo"}
    r = {g: affine(gates["h" + g], h) for g in "igfo"}
    pre = {g: [a + b for a, b in zip(i[g], r[g], strict=True)] for g in "igfo"}
    new_h, new_c = [], []
    for j in range(len(h)):
        cell = sigmoid(pre["f"][j] + 1) * c[j]
        cell += sigmoid(pre["i"][j]) * math.tanh(pre["g"][j])
        new_c.append(cell)
        new_h.append(sigmoid(pre["o"][j]) * math.tanh(cell))
    return new_h, new_c


def td_lambda(rewards, dones, v_next, t, gamma=0.995, decay=0.95):
    """The mean of all n-step returns from t, n-step with weight (1 - decay) decay^n."""
    total, reached, weight = 0.0, 0.0, 1.0
    for n, s in enumerate(range(t, len(rewards))):
        reached += gamma**n * rewards[s]
        last = dones[s] or s == len(rewards) - 1
        end = 0.0 if dones[s] else gamma ** (n + 1) * v_next[s][0]
        total += weight * (1 if last else 1 - decay) * (reached + end)
        weight *= decay
        if last:
            return total


def targets(weights, rewards, dones, probs, y, y_next, gamma=(), age=()):
    """pi_hat ``[B, T]`` and y_hat ``[B, T, m]``; gamma and age are lists of inputs."""
    workers, steps = np.shape(rewards)
    width = np.shape(weights["policy"]["kernel"])[0]
    pi_hat, y_hat = np.zeros((workers, steps)), np.zeros(np.shape(y))
    for b in range(workers):
        h, c = [0.0] * width, [0.0] * width
        for t in reversed(range(steps)):
            following = 0.0 if dones[b][t] else phi(weights, y_next[b][t])
            x = [rewards[b][t], float(dones[b][t]), *gamma, probs[b][t]]
            x += [phi(weights, y[b][t]), following, *age]
            if dones[b][t]:
                h, c = [0.0] * width, [0.0] * width
            if "gru" in weights:
                h = gru(weights["gru"], x, h)
            else:
                h, c = lstm(weights["lstm"], x, h, c)
            positive = [max(v, 0.0) for v in h]
            pi_hat[b, t] = affine(weights["policy"], positive)[0]
            if "target" not in weights:
                y_hat[b, t] = td_lambda(rewards[b], dones[b], y_next[b], t)
                continue
            y_hat[b, t] = softmax(affine(weights["target"], positive))
    return pi_hat, y_hat


def loss(pi_hat, y_hat, probs, y, alpha_y=0.5, ascend=False, baseline=None):
    """The loss to descend, with pi_hat and y_hat as constants."""
    workers, steps = np.shape(probs)
    total = 0.0
    for b in range(workers):
        for t in range(steps):
            f = 0.0 if baseline is None else baseline[b][t]
            objective = math.log(probs[b][t] + 1e-8) * (pi_hat[b][t] - f)
            total += -objective if ascend else objective
            for p, q in zip(y[b][t], y_hat[b][t], strict=True):
                total += alpha_y * p * (math.log(p + 1e-8) - math.log(q + 1e-8))
            if baseline is not None:
                total += 0.5 * (f - pi_hat[b][t]) ** 2
    return total / (workers * steps)
