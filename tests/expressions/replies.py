"""Functions as language models write them: published rules and common variants.

``CONVERTED`` are translated. ``HINTS`` cannot be, and the message says what to write.
"""

ARCHIVE = "w, g, var1, var2, t, d, t_p, b_p, l_p, key"
MOMENTA = "m_0_1, m_0_5, m_0_9, m_0_99, m_0_999, m_0_9999"
NO_FEATURES = f"p, {MOMENTA}, g, lr"
OPEN = f"p, {MOMENTA}, l_p, b_p, t_p, dorm, g, rand, lr"
RECURRENT = f"{OPEN}, iteration, var"
DRIFT = "ratio, advantage, epsilon"

CONVERTED: dict[str, tuple[str, str]] = {}
HINTS: dict[str, tuple[str, str, str]] = {}


def _add(kind: str, header: str, name: str, body: str, hint: str = "") -> None:
    lines = "".join(f"    {line}\n" for line in body.strip("\n").splitlines())
    source = f"def {name}({header}):\n{lines}"
    if hint:
        HINTS[name] = (kind, source, hint)
    else:
        CONVERTED[name] = (kind, source)


_add(
    "optimizer",
    ARCHIVE,
    "adam",
    """
b1, b2, eps, lr = 0.9, 0.999, 1e-8, 1e-3
var1 = b1 * var1 + (1 - b1) * g
var2 = b2 * var2 + (1 - b2) * jnp.square(g)
m_hat = var1 / (1 - b1 ** t)
v_hat = var2 / (1 - b2 ** t)
update = lr * m_hat / (jnp.sqrt(v_hat) + eps)
return update, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "adamw",
    """
beta1 = 0.9
beta2 = 0.999
var1 = beta1 * var1 + (1.0 - beta1) * g
var2 = beta2 * var2 + (1.0 - beta2) * g**2
mhat = var1 / (1.0 - jnp.power(beta1, t))
vhat = var2 / (1.0 - jnp.power(beta2, t))
update = 1e-3 * (mhat / (jnp.sqrt(vhat) + 1e-8) + 0.01 * w)
return update, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "lion",
    """
c = 0.9 * var1 + 0.1 * g
update = 1e-4 * jnp.sign(c)
var1 = 0.99 * var1 + 0.01 * g
return update, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "radam",
    """
b1, b2 = 0.9, 0.999
var1 = b1 * var1 + (1 - b1) * g
var2 = b2 * var2 + (1 - b2) * g * g
rho_inf = 2.0 / (1.0 - b2) - 1.0
b2t = b2 ** t
rho_t = rho_inf - 2.0 * t * b2t / (1.0 - b2t)
m_hat = var1 / (1.0 - b1 ** t)
above = (rho_t - 4) * (rho_t - 2) * rho_inf
below = (rho_inf - 4) * (rho_inf - 2) * rho_t
r = jnp.sqrt(above / below)
v_hat = jnp.sqrt(var2 / (1.0 - b2t)) + 1e-8
adaptive = lambda _: 1e-3 * r * m_hat / v_hat
plain = lambda _: 1e-3 * m_hat
update = jax.lax.cond(rho_t > 5.0, adaptive, plain, None)
return update, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "adan",
    """
# one difference of gradients; var2 holds the previous gradient
diff = g - var2
m = 0.98 * var1 + 0.02 * (g + 0.92 * diff)
step = 1e-3 * m / (jnp.abs(g + 0.92 * diff) + 1e-8)
return step, m, g
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "muon_elementwise",
    """
mu = 0.95
buf = mu * var1 + g
nesterov = g + mu * buf
scale = jnp.sqrt(jnp.mean(jnp.square(nesterov)) + 1e-12)
update = 0.02 * nesterov / scale
return (update, buf, var2)
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "rmsprop",
    """
var2 = jnp.where(t == 1, g ** 2, 0.99 * var2 + 0.01 * g ** 2)
return 1e-3 * g * jax.lax.rsqrt(var2 + 1e-8), var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "adagrad",
    """
var2 += g ** 2
return 0.01 * g / (jnp.sqrt(var2) + 1e-10), var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "amsgrad_like",
    """
var1 = 0.9 * var1 + 0.1 * g
var2 = jnp.maximum(var2 * 0.999, jnp.abs(g))
return 1e-3 * var1 / (var2 + 1e-8), var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "lamb",
    """
m = 0.9*var1 + 0.1*g
v = 0.999*var2 + 0.001*g**2
r = m / (jnp.sqrt(v) + 1e-6)
w_norm = jnp.linalg.norm(w)
r_norm = jnp.linalg.norm(r)
trust = jnp.where((w_norm > 0) & (r_norm > 0), w_norm / (r_norm + 1e-12), 1.0)
return 1e-3 * trust * r, m, v
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "noisy_sign",
    """
noise = jax.random.normal(key, shape=g.shape) * 0.01 * (1.0 - t_p)
var1 = 0.9 * var1 + 0.1 * g
update = 1e-3 * jnp.sign(var1) * (1 + noise)
return update, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "dormant_boost",
    """
boost = jnp.where(d < 0.1, 2.0, 1.0)
var1 = 0.9 * var1 + 0.1 * g
var2 = 0.999 * var2 + 0.001 * g**2
bias1 = 1.0 - 0.9**t
bias2 = 1.0 - 0.999**t
base = (var1 / bias1) / (jnp.sqrt(var2 / bias2) + 1e-8)
anneal = 0.5 * (1.0 + jnp.cos(jnp.pi * t_p))
return 1e-3 * anneal * boost * base, var1, var2
""",
)
_add(
    "optimizer",
    f"{ARCHIVE}, beta=0.9, rate=1e-3",
    "options",
    """
var1 = beta * var1 + (1 - beta) * g
return rate * var1, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "ternary",
    """
decay = 0.9 if True else 0.5
var1 = decay * var1 + (1 - decay) * g
return 1e-3 * var1, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "ternary_const",
    """
order = 2
power = 1.0 if order == 2 else 0.5
var2 = 0.99 * var2 + 0.01 * jnp.abs(g) ** order
return 1e-3 * g / (var2 ** (power / 2) + 1e-8), var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "helper_fn",
    """
def normalize(x):
    return x / (jnp.linalg.norm(x) + 1e-8)
var1 = 0.9 * var1 + 0.1 * normalize(g)
return 0.01 * jnp.linalg.norm(w) * normalize(var1), var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "loop",
    """
total = jnp.zeros_like(g)
for k in range(3):
    total = total + jnp.tanh(g * (10.0 ** k)) / 3.0
return 1e-3 * total, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "lookahead_tuple",
    """
betas = (0.9, 0.99)
m1 = betas[0] * var1 + (1 - betas[0]) * g
m2 = betas[1] * var2 + (1 - betas[1]) * g
return 1e-3 * (2 * m1 - m2) , m1, m2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "softsign_clip",
    """
rms = jnp.sqrt(jnp.mean(g ** 2) + 1e-12)
gn = jnp.clip(g / rms, -3.0, 3.0)
var1 = 0.95 * var1 + 0.05 * gn
depth = 1.0 - 0.5 * l_p
return 3e-4 * depth * var1 * jnp.exp(-t_p), var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "dtype_casts",
    """
g = g.astype(jnp.float32)
step = jnp.float32(t)
var1 = 0.9 * var1 + 0.1 * g
return (1e-3 / jnp.sqrt(step)) * var1, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "select",
    """
var1 = 0.9 * var1 + 0.1 * g
a = jnp.abs(var1)
update = jnp.select([a > 1.0, a > 0.1], [jnp.sign(var1), var1], 0.1 * var1)
return 1e-3 * update, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "std_norm",
    """
centered = g - jnp.mean(g)
var1 = 0.9 * var1 + 0.1 * centered / (jnp.std(g) + 1e-8)
return 1e-3 * var1, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "maximum_where_nan",
    """
update = jnp.nan_to_num(g / jnp.abs(var1))
var1 = jnp.maximum(0.99 * var1, jnp.abs(g))
return 1e-3 * update, var1, var2
""",
    "no 'nan'",
)
_add(
    "optimizer",
    ARCHIVE,
    "while_bad",
    """
i = 0
while i < 3:
    i += 1
return g, var1, var2
""",
    "a while loop may never end",
)
_add(
    "optimizer",
    ARCHIVE,
    "if_array",
    """
if jnp.linalg.norm(g) > 1.0:
    g = g / jnp.linalg.norm(g)
return 1e-3 * g, var1, var2
""",
    "write jnp.where",
)
_add(
    "optimizer",
    ARCHIVE,
    "if_static",
    """
nesterov = True
var1 = 0.9 * var1 + 0.1 * g
if nesterov:
    upd = 0.9 * var1 + 0.1 * g
else:
    upd = var1
return 1e-3 * upd, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "early_return",
    """
if t == 1:
    return g, var1, var2
return 1e-3 * g, var1, var2
""",
    "write jnp.where",
)
_add(
    "optimizer",
    ARCHIVE,
    "fstring_doc",
    '''
"""Sign momentum with a schedule."""
lr: float = 1e-3
schedule = 1.0 - t_p
var1 = 0.9 * var1 + 0.1 * g
update = lr * schedule * jnp.sign(var1)
return update, var1, var2
''',
)
_add(
    "optimizer",
    ARCHIVE,
    "lambda_local",
    """
relu = lambda x: jnp.maximum(x, 0.0)
var1 = 0.9 * var1 + 0.1 * g
return 1e-3 * (relu(var1) - relu(-var1)), var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "assert_shape",
    """
assert w.shape == g.shape
return 1e-3 * g, var1, var2
""",
    "remove it",
)
_add(
    "optimizer",
    ARCHIVE,
    "inner_import",
    """
import jax
import jax.numpy as jnp
from jax import lax
return lax.select(g > 0, 1e-3 * g, 2e-3 * g), var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "dict",
    """
cfg = {"b1": 0.9, "lr": 1e-3}
var1 = cfg["b1"] * var1 + (1 - cfg["b1"]) * g
return cfg["lr"] * var1, var1, var2
""",
    "give each value a name",
)
_add(
    "optimizer",
    ARCHIVE,
    "linalg_axis",
    """
row = jnp.sqrt(jnp.mean(g**2, axis=-1, keepdims=True) + 1e-8)
return 1e-3 * g / row, var1, var2
""",
    "drop axis",
)
_add(
    "optimizer",
    ARCHIVE,
    "quantile",
    """
thr = jnp.quantile(jnp.abs(g), 0.9)
return 1e-3 * jnp.clip(g, -thr, thr), var1, var2
""",
    "use mean, norm or max",
)
_add(
    "optimizer",
    ARCHIVE,
    "median",
    """
med = jnp.median(jnp.abs(g))
return 1e-3 * g / (med + 1e-8), var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "dot",
    """
cos = jnp.sum(g * var1) / (jnp.linalg.norm(g) * jnp.linalg.norm(var1) + 1e-8)
var1 = 0.9 * var1 + 0.1 * g
return 1e-3 * (1 + cos) * var1, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "vdot",
    """
cos = jnp.vdot(g, var1)
var1 = 0.9 * var1 + 0.1 * g
return 1e-3 * (1 + jnp.tanh(cos)) * var1, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "annotations",
    """
lr = 3e-4
m: jnp.ndarray = 0.9 * var1 + 0.1 * g
v: jnp.ndarray = 0.999 * var2 + 0.001 * (g * g)
return lr * m / (jnp.sqrt(v) + 1e-8), m, v
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "dropout_mask",
    """
mask = jax.random.bernoulli(key, 0.9, g.shape)
return 1e-3 * jnp.where(mask, g, 0.0), var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "switch",
    """
phase = jnp.where(t_p < 0.5, 1.0, 0.1)
return 1e-3 * phase * g, var1, var2
""",
)
_add(
    "optimizer",
    ARCHIVE,
    "lax_switch",
    """
idx = jnp.int32(t_p > 0.5)
upd = jax.lax.switch(idx, [lambda: g, lambda: 0.1 * g])
return 1e-3 * upd, var1, var2
""",
    "leave it out",
)
_add(
    "drift",
    DRIFT,
    "ppo_clip",
    """
clipped = jnp.clip(ratio, 1.0 - epsilon, 1.0 + epsilon)
return jnp.maximum((ratio - clipped) * advantage, 0.0)
""",
)
_add(
    "drift",
    DRIFT,
    "dual_clip",
    """
c = 3.0
clipped = jnp.clip(ratio, 1 - epsilon, 1 + epsilon)
surr = jnp.minimum(ratio * advantage, clipped * advantage)
dual = jnp.where(advantage < 0, jnp.maximum(surr, c * advantage), surr)
return ratio * advantage - dual
""",
)
_add(
    "drift",
    DRIFT,
    "truly_ppo",
    """
kl = ratio - 1.0 - jnp.log(ratio)
return jnp.where((kl >= 0.03) & (ratio * advantage >= advantage), 5.0 * kl, 0.0)
""",
)
_add(
    "drift",
    DRIFT,
    "dpo_discovered",
    """
alpha, beta = 2.0, 0.6
is_pos = (advantage >= 0.0).astype(jnp.float32)
r1 = ratio - 1.0
x = r1 * advantage
drift1 = nn.relu(x - alpha * jnp.tanh(x / alpha))
y = jnp.log(ratio) * advantage
drift2 = nn.relu(y - beta * jnp.tanh(y / beta))
return drift1 * is_pos + drift2 * (1 - is_pos)
""",
)
_add(
    "drift",
    DRIFT,
    "spo",
    """
return jnp.abs(advantage) / (2 * epsilon) * (ratio - 1) ** 2
""",
)
_add(
    "drift",
    DRIFT,
    "discopop_lrml",
    """
x = jnp.log(ratio)
mod = jax.nn.sigmoid(x / 0.05)
logistic = -jax.nn.log_sigmoid(x)
exp_loss = jnp.exp(-x)
mix = logistic * (1 - mod) + exp_loss * mod
return jnp.abs(advantage) * jnp.square(mix - mix)
""",
)
_add(
    "drift",
    DRIFT,
    "aql",
    """
x = jnp.log(ratio)
q = 0.5 * x ** 2
l = -jax.nn.log_sigmoid(x) - jnp.log(2.0)
return jnp.abs(advantage) * jnp.maximum(0.5 * q + 0.5 * l * l, 0.0)
""",
)
_add(
    "drift",
    DRIFT,
    "softplus_gap",
    """
gap = jnp.abs(ratio - 1.0) - epsilon
soft = jax.nn.softplus(10.0 * gap) / 10.0
base = jax.nn.softplus(-10.0 * epsilon) / 10.0
return jnp.abs(advantage) * jnp.square(soft - base)
""",
)
_add(
    "drift",
    DRIFT,
    "minmax_py",
    """
eps_hi = max(epsilon, 0.28)
excess = ratio - jnp.clip(ratio, 1 - epsilon, 1 + eps_hi)
return nn.relu(excess * advantage)
""",
)
_add(
    "drift",
    DRIFT,
    "hellinger",
    """
return 4.0 * jnp.abs(advantage) * (jnp.sqrt(ratio) - 1.0) ** 2
""",
)
_add(
    "drift",
    DRIFT,
    "asym_power",
    """
x = jnp.log(ratio)
s = jnp.sign(advantage)
e = nn.relu(s * x - epsilon)
return jnp.abs(advantage) * e ** 1.5
""",
)
_add(
    "drift",
    DRIFT,
    "logaddexp",
    """
x = jnp.log(ratio)
return jnp.abs(advantage) * (jnp.logaddexp(x, -x) - jnp.log(2.0))
""",
)
_add(
    "drift",
    DRIFT,
    "huber",
    """
u = jnp.abs(ratio - 1.0)
inner = 0.5 * u ** 2 / epsilon
return jnp.abs(advantage) * jnp.where(u < epsilon, inner, u - 0.5 * epsilon)
""",
)
_add(
    "optimizer",
    NO_FEATURES,
    "hybrid",
    """
beta = 0.9
combined = beta * m_0_9 + (1 - beta) * m_0_99
return lr * (combined + 0.1 * g)
""",
)
_add(
    "optimizer",
    NO_FEATURES,
    "sign_agree",
    """
agree = jnp.sign(m_0_9) * jnp.sign(m_0_99)
scale = jnp.where(agree > 0, 1.0, 0.3)
rms = jnp.sqrt(jnp.mean(m_0_9**2) + 1e-8)
return lr * 1e-2 * scale * m_0_9 / rms
""",
)
_add(
    "optimizer",
    NO_FEATURES,
    "stack_mean",
    """
ms = jnp.stack([m_0_1, m_0_5, m_0_9, m_0_99, m_0_999, m_0_9999])
avg = jnp.mean(ms, axis=0)
return lr * avg
""",
)
_add(
    "optimizer",
    NO_FEATURES,
    "stack_std",
    """
ms = jnp.stack([m_0_1, m_0_9, m_0_99])
return lr * jnp.mean(ms, axis=0) / (jnp.std(ms, axis=0) + 1e-8)
""",
    "write it out",
)
_add(
    "optimizer",
    NO_FEATURES,
    "weights_sum",
    """
coeffs = jnp.array([0.1, 0.2, 0.3])
ms = [m_0_9, m_0_99, m_0_999]
upd = sum(c * m for c, m in zip(coeffs, ms))
return lr * upd
""",
)
_add(
    "optimizer",
    NO_FEATURES,
    "listcomp",
    """
ms = [m_0_9, m_0_99, m_0_999]
parts = [jnp.tanh(m) for m in ms]
return lr * (parts[0] + parts[1] + parts[2]) / 3
""",
)
_add(
    "optimizer",
    NO_FEATURES,
    "einsum_like",
    """
ms = jnp.array([m_0_9, m_0_99])
ws = jnp.array([0.7, 0.3])
return lr * jnp.tensordot(ws, ms, axes=1)
""",
    "use mean, norm or max",
)
_add(
    "optimizer",
    RECURRENT,
    "adam_rec",
    """
b2 = 0.999
var = b2 * var + (1 - b2) * g ** 2
m_hat = m_0_9 / (1 - 0.9 ** iteration)
v_hat = var / (1 - b2 ** iteration)
update = lr * m_hat / jnp.sqrt(v_hat + 1e-8) + 1e-4 * rand * (1 - t_p)
return update, var
""",
)
_add(
    "optimizer",
    OPEN,
    "robust",
    """
eps = 1e-8
grad_norm = jnp.sqrt(jnp.sum(g**2)) + eps
trend = m_0_9 - m_0_99
explore = 0.01 * rand * (1.0 - t_p) * jnp.exp(-dorm)
update = lr * (m_0_9 + 0.5 * trend) / jnp.maximum(grad_norm, 1.0) + lr * explore
return update
""",
)
