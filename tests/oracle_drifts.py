"""Drifts once more, point by point in plain Python: slow and hard to get wrong.

Written from the equations; shares no code with the package.
"""

import math


def ppo(r, a, clip_eps=0.2):
    bounded = min(max(r, 1 - clip_eps), 1 + clip_eps)
    return max(0.0, (r - bounded) * a)


def dpo(r, a, alpha=2.0, beta=0.6):
    z, scale = ((r - 1) * a, alpha) if a >= 0 else (math.log(r) * a, beta)
    return max(0.0, z - scale * math.tanh(z / scale))


def lpo(r, a, kernel_in, kernel_out, clip_eps=0.2, margin=1e-4):
    u, x = r - 1, math.log(r)
    inputs = [u, u * u, x, x * x, u * a, u * u * a, x * a, x * x * a]
    o = 0.0
    for j in range(len(kernel_out)):
        before = sum(inputs[i] * float(kernel_in[i][j]) for i in range(8))
        o += math.tanh(before) * float(kernel_out[j][0])
    return max(0.0, ppo(r, a, clip_eps) + o - margin)


def clipped_objective(r, a, clip_eps=0.2):
    """PPO's, Schulman et al. 2017, equation 7, for one sample."""
    bounded = min(max(r, 1 - clip_eps), 1 + clip_eps)
    return min(r * a, bounded * a)
