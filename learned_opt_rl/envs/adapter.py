"""One environment interface for both of gymnax's step signatures.

``step`` returns five values in gymnax up to 0.0.9, in Craftax and in many private
environments. It returns six in gymnax 1.0, which separates termination from truncation.
`adapt` finds out which, once and from shapes only.
"""

import dataclasses
import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.envs import interface, spaces
from learned_opt_rl.errors import MissingExtraError


class EpisodeState(NamedTuple):
    """An environment's state, with the returns and lengths of its episodes.

    Attributes:
        env: The wrapped environment's own state.
        episode_return: float32 scalar, undiscounted return of the running episode.
        episode_length: int32 scalar, steps of the running episode.
        last_return: float32 scalar, return of the last finished episode, 0 before.
        last_length: int32 scalar, length of the last finished episode, 0 before.
    """

    env: Any
    episode_return: jax.Array
    episode_length: jax.Array
    last_return: jax.Array
    last_length: jax.Array


class Step(NamedTuple):
    """The result of one environment step.

    Attributes:
        observation: The next observation; after an episode ends, the first of the
            next one.
        state: The next state.
        reward: float32 scalar.
        done: bool scalar, terminated or truncated.
        truncated: bool scalar, whether a time limit ended the episode rather than a
            termination. This field and the next are ``None`` unless the environment
            gives both.
        final_observation: The observation after the step and before the reset. Only
            the values of truncated steps are used.
    """

    observation: jax.Array
    state: EpisodeState
    reward: jax.Array
    done: jax.Array
    truncated: jax.Array | None = None
    final_observation: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Environment:
    """An environment as two pure functions and its sizes.

    Attributes:
        name: The name in result rows.
        reset: ``key -> (observation, state)``.
        step: ``(key, state, action) -> Step``; resets itself when an episode ends.
            Continuous actions are clipped to their bounds.
        observation_shape: Shape of one observation.
        num_actions: Number of discrete actions, or length of a continuous action.
        continuous: Whether an action is a float32 ``[num_actions]``, not an integer.
        batched_reset: ``(key, num) -> (observations, states)`` for an agent's batch,
            whose members share a draw (the level of a grid world).
        batched_step: ``(keys, states, actions) -> Step`` for a batch, where that is
            cheaper than ``vmap`` of ``step``.
        from_policy: Maps a policy's outputs, indices from 0 or ``[..., num_actions]``
            numbers around 0, to actions; ``None`` where they are the same.
        details: Further facts that results depend on, such as the physics backend and
            package versions, as pairs; result rows keep them.
        optimal_return: Expected undiscounted return per episode of the best policy, if
            known.
        tabular_form: The environment behind `tabular`; see `with_tabular`.

    Example:
        >>> import jax
        >>> from learned_opt_rl import envs
        >>> env = envs.make("CartPole-v1")
        >>> observation, state = env.reset(jax.random.key(0))
        >>> step = env.step(jax.random.key(1), state, 1)
        >>> step.observation.shape, float(step.reward)
        ((4,), 1.0)
    """

    name: str
    reset: Callable[[jax.Array], tuple[jax.Array, EpisodeState]]
    step: Callable[[jax.Array, EpisodeState, Any], Step]
    observation_shape: tuple[int, ...]
    num_actions: int
    continuous: bool = False
    batched_reset: Callable[[jax.Array, int], tuple[jax.Array, EpisodeState]] | None = (
        None
    )
    batched_step: Callable[[jax.Array, EpisodeState, Any], Step] | None = None
    from_policy: Callable[[jax.Array], jax.Array] | None = None
    details: tuple[tuple[str, str], ...] = ()
    optimal_return: float | None = None
    tabular_form: "_TabularForm | None" = None

    @property
    def tabular(self) -> "Environment | None":
        """The same environment with the index of the state as the observation.

        The observation is ``[index, ...]``, with the entries after the one-hot part.
        Agents without layers look their rows up by it if there is at most one such
        entry. It is ``None`` if observations are not one-hot, and in a copy that has
        other methods.
        """
        form = self.tabular_form
        return form.env if form and form.methods == self._methods else None

    @property
    def _methods(self) -> tuple[Any, ...]:
        single = self.reset, self.step, self.from_policy
        return (*single, self.batched_reset, self.batched_step)

    def with_tabular(self, tabular: "Environment | None") -> "Environment":
        """Return this environment with its tabular form."""
        form = tabular and _TabularForm(tabular, self._methods)
        return dataclasses.replace(self, tabular_form=form)

    def reset_many(self, key: jax.Array, num: int) -> tuple[jax.Array, EpisodeState]:
        """Return the first observations and states of an agent's environments.

        Their shapes are ``[num, *observation_shape]`` and ``[num, ...]``.
        """
        if self.batched_reset is not None:
            return self.batched_reset(key, num)
        return jax.vmap(self.reset)(jax.random.split(key, num))

    def step_many(self, key: jax.Array, states: EpisodeState, actions: Any) -> Step:
        """Step an agent's environments; all arrays are ``[num, ...]``.

        Actions are int32 ``[num]``, or float32 ``[num, num_actions]``.
        """
        keys = jax.random.split(key, len(actions))
        step = self.batched_step or jax.vmap(self.step)
        return step(keys, states, actions)

    def to_actions(self, outputs: jax.Array) -> jax.Array:
        """Map a policy's outputs to actions.

        Indices from 0 are shifted to the start of the action space. Numbers are
        stretched from [-1, 1] to finite bounds and clipped to them. To symmetric bounds
        from [-1, 1] to [-2, 2] they are only clipped: a policy fills such bounds
        without stretching, and the published runs clip there.
        """
        return outputs if self.from_policy is None else self.from_policy(outputs)

    def random_actions(self, key: jax.Array, num: int) -> jax.Array:
        """Draw actions as an untrained agent does.

        Its outputs are uniform int32 ``[num]``, or normal float32
        ``[num, num_actions]``.
        """
        if self.continuous:
            outputs = jax.random.normal(key, (num, self.num_actions), jnp.float32)
        else:
            outputs = jax.random.randint(key, (num,), 0, self.num_actions, jnp.int32)
        return self.to_actions(outputs)


class _TabularForm(NamedTuple):
    env: Environment
    methods: tuple[Any, ...]  # of the environment that it is the form of


def adapt(
    env: Any,
    params: Any = None,
    *,
    name: str | None = None,
    resets: bool = True,
    observe: Callable[[Any], Any] = lambda observation: observation,
) -> Environment:
    """Wrap an object with gymnax's methods as an `Environment`.

    Agents bootstrap where a time limit cuts an episode, if the environment reports the
    truncation and gives the final observation. It reports the truncation by six values
    of ``step``, ``info["truncated"]`` or ``info["truncation"]``. It gives the final
    observation in ``info["final_observation"]`` or ``info["final_obs"]``, or with
    ``resets=False``.

    Args:
        env: Has ``reset(key, params)``, ``step(key, state, action, params)`` and
            ``action_space(params)``, all with or without ``params``; the last may be
            an attribute. ``step`` returns ``(obs, state, reward, done, info)`` or
            ``(obs, state, reward, terminated, truncated, info)``.
        params: Environment parameters; by default ``env.default_params``.
        name: Name of the result; by default ``env.name`` or the class's name.
        resets: Whether ``step`` starts the next episode itself. With False, the
            adapter starts it, and ``step`` must return the final observation of an
            episode. `check` detects a wrong True.
        observe: Applied to every observation, for example to flatten a dictionary.

    Raises:
        TypeError: The object does not have this interface, one of its methods fails,
            the observation is not a single array, a structure, shape or dtype changes
            from ``reset`` to ``step``, or actions are neither discrete nor one bounded
            array. `check` also looks at values.

    Example:
        >>> import gymnax
        >>> adapt(*gymnax.make("Catch-bsuite")).num_actions
        3
    """
    if params is None:
        params = getattr(env, "default_params", None)
    if name is None:
        name = str(getattr(env, "name", type(env).__name__))
    interface.check_methods(name, env)
    restart, move, space = (
        interface.with_params(getattr(env, method), params)
        for method in ("reset", "step", "action_space")
    )

    def begin(key: jax.Array) -> tuple[Any, Any]:
        observation, state = restart(key)
        return observe(observation), state

    methods = restart, begin, move, space
    shape, actions, stepped = _read(name, env, methods, observe)
    endings = _endings(stepped, resets)

    def reset(key: jax.Array) -> tuple[jax.Array, EpisodeState]:
        observation, state = begin(key)
        return observation, _start_account(state)

    def step(key: jax.Array, state: EpisodeState, action: Any) -> Step:
        if actions.bounds is not None:
            action = jnp.reshape(action, actions.example.shape)
            action = jnp.clip(action, *actions.bounds)
        key, reset_key = (key, key) if resets else jax.random.split(key)
        shown, inner, reward, *rest = move(key, state.env, action)
        done, truncated, final = endings(shown, *rest)
        observation = observe(shown)
        if not resets:
            observation, inner = jax.lax.cond(
                done, lambda: begin(reset_key), lambda: (observation, inner)
            )
        reward = jnp.asarray(reward, jnp.float32)
        accounted = account(state, inner, reward, done)
        if truncated is not None:
            final = observe(final)
        return Step(observation, accounted, reward, done, truncated, final)

    return Environment(
        name,
        reset,
        step,
        shape,
        actions.number,
        continuous=actions.bounds is not None,
        from_policy=actions.from_policy,
        details=(("actions", "stretched to their bounds"),) * actions.stretched,
    )


def _read(
    name: str,
    env: Any,
    methods: tuple[Callable[..., Any], ...],
    observe: Callable[[Any], Any],
) -> tuple[tuple[int, ...], spaces.Actions, Any]:
    """Check the methods; return an observation's shape, the actions, a step's shapes.

    The step's observation is the one before ``observe``.
    """
    restart, begin, move, space = methods

    def shapes(method: str, function: Callable[..., Any], *arguments: Any) -> Any:
        call = functools.partial(jax.eval_shape, function, *arguments)
        return interface.attempt(name, method, call, env)

    key = interface.key_shape()
    interface.check_pair(name, shapes("reset", restart, key), env)
    first = shapes("observe", begin, key)
    interface.check_observation(name, first[0], env)
    actions = spaces.read(name, interface.attempt(name, "action_space", space, env))
    stepped = shapes("step", move, key, first[1], actions.example)
    interface.check_count(name, stepped)
    seen = shapes("observe", observe, stepped[0])
    interface.check_step(name, first, (seen, *stepped[1:]))
    return tuple(first[0].shape), actions, stepped


# Keys of a step's `info`: of gymnax, then of brax.
_TRUNCATED = ("truncated", "truncation")
# Keys of gymnax and of gymnasium before 1.0, then of gymnasium since.
_FINAL = ("final_observation", "final_obs")


def _endings(stepped: tuple[Any, ...], resets: bool) -> Callable[..., Any]:
    """Return ``(observation, *ends, info) -> (done, truncated, final observation)``.

    ``stepped`` has the shapes of a step's result. The last two are None if the
    environment does not give both.
    """
    observation, *_, info = stepped
    info = info if isinstance(info, Mapping) else {}

    def kind(tree: Any) -> Any:
        return jax.tree.map(interface.kind, tree)

    flags = [key for key in _TRUNCATED if key in info and jnp.shape(info[key]) == ()]
    finals = [key for key in _FINAL if kind(info.get(key)) == kind(observation)]
    separate = len(stepped) == 6

    def read(observation: Any, *rest: Any) -> tuple[Any, Any, Any]:
        *ends, info = rest
        ends = [jnp.asarray(end, bool) for end in ends]
        done = ends[0] | ends[1] if separate else ends[0]
        if (resets and not finals) or not (separate or flags):
            return done, None, None
        truncated = ~ends[0] if separate else jnp.asarray(info[flags[0]], bool)
        return done, done & truncated, info[finals[0]] if resets else observation

    return read


def in_32_bits(make: Callable[..., Environment]) -> Callable[..., Environment]:
    """Decorate a maker: its environments are built and played in 32 bits.

    gymnax, for example, mixes both widths under ``jax_enable_x64`` and then fails.
    """

    def narrow(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def called(*arguments: Any, **options: Any) -> Any:
            with _without_x64():
                return function(*arguments, **options)

        return called

    @functools.wraps(make)
    def made(*arguments: Any, **options: Any) -> Environment:
        env = narrow(make)(*arguments, **options)
        methods = ("reset", "step", "batched_reset", "batched_step")
        present = {x: getattr(env, x) for x in methods if getattr(env, x) is not None}
        return dataclasses.replace(env, **{x: narrow(f) for x, f in present.items()})

    return made


def _without_x64() -> Any:
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(False)
    from jax.experimental import disable_x64  # jax < 0.8  # pyright: ignore

    return disable_x64()


@in_32_bits
def sharing_draws(
    name: str,
    draw: Callable[[jax.Array], Any],
    begin: Callable[[jax.Array, Any], tuple[jax.Array, Any]],
    step: Callable[[jax.Array, Any, Any], tuple[jax.Array, Any, jax.Array, jax.Array]],
    **fields: Any,
) -> Environment:
    """Build an environment whose batch shares one draw per agent, such as a level.

    ``reset_many`` calls ``draw(key) -> drawn`` once. ``begin(key, drawn)`` returns an
    observation and an inner state. ``step(key, inner state, action)`` returns
    ``(observation, inner state, reward, done)`` and starts the next episode itself.
    """

    def start(key: jax.Array, drawn: Any) -> tuple[jax.Array, EpisodeState]:
        observation, inner = begin(key, drawn)
        return observation, _start_account(inner)

    def reset(key: jax.Array) -> tuple[jax.Array, EpisodeState]:
        draw_key, key = jax.random.split(key)
        return start(key, draw(draw_key))

    def batched_reset(key: jax.Array, num: int) -> tuple[jax.Array, EpisodeState]:
        draw_key, key = jax.random.split(key)
        keys = jax.random.split(key, num)
        return jax.vmap(start, (0, None))(keys, draw(draw_key))

    def accounted(key: jax.Array, state: EpisodeState, action: Any) -> Step:
        observation, inner, reward, done = step(key, state.env, action)
        return Step(observation, account(state, inner, reward, done), reward, done)

    return Environment(name, reset, accounted, batched_reset=batched_reset, **fields)


def account(
    state: EpisodeState, inner: Any, reward: jax.Array, done: jax.Array
) -> EpisodeState:
    """Add one step to the running episode, and close the episode where it ended.

    ``inner`` is the wrapped environment's state after the step. All arrays are scalars
    or have the same leading axis.
    """
    total = state.episode_return + reward
    length = state.episode_length + 1
    return EpisodeState(
        env=inner,
        episode_return=jnp.where(done, 0.0, total),
        episode_length=jnp.where(done, 0, length),
        last_return=jnp.where(done, total, state.last_return),
        last_length=jnp.where(done, length, state.last_length),
    )


def _start_account(inner: Any) -> EpisodeState:
    none, zero = jnp.int32(0), jnp.float32(0)
    return EpisodeState(inner, zero, none, zero, none)


def require(module: str, extra: str) -> ModuleType:
    """Import a module; ``MissingExtraError`` names the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"the environment needs {package}, which is not installed or not "
            f"importable ({error}): pip install 'learned-opt-rl[{extra}]'"
        ) from error


def versions(*packages: str) -> tuple[tuple[str, str], ...]:
    """Return installed packages with their versions, for `Environment.details`."""
    return tuple((name, importlib.metadata.version(name)) for name in packages)
