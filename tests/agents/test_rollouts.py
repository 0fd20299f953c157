import jax.numpy as jnp
import numpy as np

from learned_opt_rl.agents.rollouts import mean_return
from learned_opt_rl.envs import adapter


def test_environments_count_once_they_have_finished_an_episode():
    state = adapter.EpisodeState(
        env=None,
        episode_return=jnp.full((3, 2), -9.0),
        episode_length=jnp.full((3, 2), 9),
        last_return=jnp.array([[0.0, 0.0], [-4.0, 0.0], [-4.0, 0.0]]),
        last_length=jnp.array([[0, 0], [2, 0], [2, 1]]),
    )
    np.testing.assert_array_equal(mean_return(state), [np.nan, -4, -2])
