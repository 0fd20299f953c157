"""Environment suites behind one small interface.

`make` builds a gymnax environment by name; `adapt` wraps any object with
gymnax's ``reset``/``step`` methods, of either step arity.
"""

from learned_opt_rl.envs.adapter import Environment as Environment
from learned_opt_rl.envs.adapter import EpisodeState as EpisodeState
from learned_opt_rl.envs.adapter import Step as Step
from learned_opt_rl.envs.adapter import adapt as adapt
from learned_opt_rl.envs.adapter import make as make
