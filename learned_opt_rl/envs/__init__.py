"""Environment suites behind one small interface.

`make` builds an environment by name, from gymnax, brax, Craftax, our own grid worlds
and chains, or another package. `suite` names those that are reported together. `adapt`
wraps any object with gymnax's ``reset`` and ``step`` methods. `check` plays an
environment for a moment before a long run.
"""

from learned_opt_rl.envs.adapter import Environment as Environment
from learned_opt_rl.envs.adapter import EpisodeState as EpisodeState
from learned_opt_rl.envs.adapter import Step as Step
from learned_opt_rl.envs.adapter import adapt as adapt
from learned_opt_rl.envs.checks import check as check
from learned_opt_rl.envs.registry import SUITES as SUITES
from learned_opt_rl.envs.registry import episode_length as episode_length
from learned_opt_rl.envs.registry import make as make
from learned_opt_rl.envs.registry import names as names
from learned_opt_rl.envs.registry import suite as suite
