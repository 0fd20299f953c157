"""The modes of grid worlds: distributions of levels, and how agents play them."""

import dataclasses
import functools
import importlib.resources
import json
from typing import Any, Literal, NamedTuple, get_args

from learned_opt_rl.checks import one_of, positive_int, suggest

Interval = tuple[float, float]
"""The least and the greatest value to draw; equal for a fixed value."""

Observation = Literal["tabular", "flat", "image"]
"""The form of observations: see `observe`."""

Actions = Literal["five", "nine", "eighteen", "drawn"]
"""``"five"``: up, down, left, right, stay. ``"nine"``: also the four diagonals.
``"eighteen"``: the nine, which then collect nothing, and nine that collect from that
neighbor cell without moving. ``"drawn"``: eighteen actions; with equal probability a
level takes them as the eighteen, or as the nine twice."""


class ObjectType(NamedTuple):
    """Objects of one kind; each property is drawn once per level.

    Attributes:
        number: Largest number of such objects.
        reward: Reward for collecting one; uniform.
        p_terminate: Probability that collecting one ends the episode; log-uniform.
        p_respawn: Probability per step that an absent one appears; log-uniform.
    """

    number: int
    reward: Interval
    p_terminate: Interval
    p_respawn: Interval


@dataclasses.dataclass(frozen=True)
class LevelDistribution:
    """A distribution of levels. A number instead of an interval is a fixed value.

    Attributes:
        heights: Rows; uniform.
        widths: Columns; uniform. The same draw as for ``heights`` decides, so equal
            intervals give squares.
        objects: Rows of ``(number, reward, p_terminate, p_respawn)``.
        max_steps: Length of the longest episode; log-uniform, rounded.
        num_objects: Number of objects in a level, in the order of their rows; uniform.
            All of them by default.
        walls: A fixed layout, one string per row, ``#`` for a wall.
        num_walls: Walls drawn from the cells of the largest grid. Walls outside a
            smaller level, and walls that would leave no room, are omitted.

    Raises:
        ValueError: A value is out of range, or the smallest level has too few free
            cells for its start and its objects.

    Example:
        >>> levels = LevelDistribution(3, (3, 5), [(1, (0, 1), 0.5, 0)], max_steps=10)
        >>> levels.objects[0]
        ObjectType(number=1, reward=(0, 1), p_terminate=(0.5, 0.5), p_respawn=(0, 0))
    """

    heights: Interval
    widths: Interval
    objects: tuple[ObjectType, ...]
    max_steps: Interval
    num_objects: Interval | None = None
    walls: tuple[str, ...] = ()
    num_walls: int = 0

    def __post_init__(self) -> None:
        put = functools.partial(object.__setattr__, self)
        for name in ("heights", "widths", "max_steps"):
            put(name, _interval(name, getattr(self, name), 1))
        put("objects", tuple(_object_type(row) for row in self.objects))
        if not self.objects:
            raise ValueError("objects=() must have at least one row")
        most = len(self.slots)
        number = most if self.num_objects is None else self.num_objects
        put("num_objects", _interval("num_objects", number, 1, most))
        put("walls", tuple(self.walls))
        self._check_room()

    @property
    def slots(self) -> tuple[int, ...]:
        """The type of each object, an index into ``objects``."""
        return tuple(
            i for i, kind in enumerate(self.objects) for _ in range(kind.number)
        )

    def _check_room(self) -> None:
        grid = int(self.heights[0]), int(self.widths[0])
        if self.walls:
            shape = len(self.walls), len(self.walls[0])
            if {len(row) for row in self.walls} != {shape[1]} or (
                (shape[0],) * 2 != self.heights or (shape[1],) * 2 != self.widths
            ):
                raise ValueError(
                    f"walls have {shape[0]} rows, the first with {shape[1]} cells; a "
                    f"layout needs a fixed grid of the same size, not {self.heights} "
                    f"by {self.widths}"
                )
        free = grid[0] * grid[1] - "".join(self.walls).count("#")
        needed = 1 + int(_pair(self.num_objects)[1])
        if free < needed:
            raise ValueError(
                f"a level of {grid[0]} by {grid[1]} cells has {free} free ones, but "
                f"needs {needed}: a start and num_objects={needed - 1} objects; use a "
                "larger grid, fewer objects or fewer walls"
            )


@dataclasses.dataclass(frozen=True)
class Mode:
    """A family of levels in a frame that holds each of them, with its observations.

    Attributes:
        name: The name in result rows.
        levels: The distributions of levels; each has the same probability.
        observation: The form of observations.
        random_placement: Whether objects get new cells in each episode and whenever
            they respawn; otherwise their cells are fixed within a level.
        actions: The actions of an agent.
        lifetime: Updates of an agent in meta-training; log-uniform, rounded.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> levels = LevelDistribution(3, 5, [(2, 1.0, 0.0, 0.1)], max_steps=10)
        >>> Mode("mine", (levels,)).num_cells
        15
    """

    name: str
    levels: tuple[LevelDistribution, ...]
    observation: Observation = "tabular"
    random_placement: bool = False
    actions: Actions = "five"
    lifetime: Interval = (2500, 2500)

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", tuple(self.levels))
        lifetime = _interval("lifetime", self.lifetime, 1)
        object.__setattr__(self, "lifetime", lifetime)
        if not self.levels:
            raise ValueError("levels=() must hold at least one distribution")
        for name, known in (("observation", Observation), ("actions", Actions)):
            one_of(name, getattr(self, name), get_args(known))
        if self.observation == "tabular" and self.random_placement:
            raise ValueError(
                'observation="tabular" has no place for objects whose cells change '
                'within a level; use "flat" or "image", or random_placement=False'
            )

    @property
    def height(self) -> int:
        """Rows of the largest level."""
        return max(int(levels.heights[1]) for levels in self.levels)

    @property
    def width(self) -> int:
        """Columns of the largest level."""
        return max(int(levels.widths[1]) for levels in self.levels)

    @property
    def num_cells(self) -> int:
        """Cells of the frame."""
        return self.height * self.width

    @property
    def num_slots(self) -> int:
        """Objects of the level with most of them."""
        return max(len(levels.slots) for levels in self.levels)

    @property
    def num_types(self) -> int:
        """Types of objects in the level with most of them."""
        return max(len(levels.objects) for levels in self.levels)

    @property
    def max_steps(self) -> int:
        """Length of the longest episode."""
        return max(int(levels.max_steps[1]) for levels in self.levels)

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return {"five": 5, "nine": 9}.get(self.actions, 18)

    @property
    def observation_shape(self) -> tuple[int, ...]:
        """Shape of an observation."""
        if self.observation == "tabular":
            return (self.num_cells * 2**self.num_slots + 1,)
        if self.observation == "flat":
            return (self.num_cells * (1 + self.num_types) + 1,)
        return (self.height, self.width, 1 + self.num_types)


@functools.lru_cache
def get_mode(name: str) -> Mode:
    """Return the mode of a name of `NAMES`, or raise ValueError.

    References:
        Jackson et al. 2023 (GROOVE): all but ``paper_*``. GROOVE's own mixtures
        ``tabular`` and ``mazes`` raise an error; here they work.
        Oh et al. 2020, "Discovering Reinforcement Learning Algorithms", appendix A:
        ``paper_*``, with the grids and the actions that GROOVE simplifies.

    Example:
        >>> get_mode("all_shortlife").observation_shape
        (3201,)
    """
    if name not in NAMES:
        raise ValueError(f"name={name!r} is unknown; {suggest(name, NAMES)}")
    entry = _entry(name)
    parts = entry.pop("mixture", None)
    if parts is not None:
        levels = [part for member in parts for part in get_mode(member).levels]
        return Mode(name, tuple(levels), **entry)
    heights, widths = entry.pop("grid", None) or [entry.pop("side")] * 2
    levels = {
        field.name: entry.pop(field.name)
        for field in dataclasses.fields(LevelDistribution)
        if field.name in entry
    }
    return Mode(name, (LevelDistribution(heights, widths, **levels),), **entry)


def _entry(name: str) -> dict[str, Any]:
    """Return a mode's entry, completed from the entry that ``like`` names."""
    entry = dict(_table()[name])
    base = entry.pop("like", None)
    return entry if base is None else {**_entry(base), **entry}


@functools.cache
def _table() -> dict[str, dict[str, Any]]:
    file = importlib.resources.files("learned_opt_rl.envs.gridworld") / "modes.json"
    return json.loads(file.read_text(encoding="utf-8"))["modes"]


NAMES: tuple[str, ...] = tuple(_table())
"""The names of the modes."""


def _object_type(row: Any) -> ObjectType:
    number, reward, p_terminate, p_respawn = row
    return ObjectType(
        positive_int("number", number, "give each row of objects at least 1"),
        _pair(reward),
        _interval("p_terminate", p_terminate, 0, 1),
        _interval("p_respawn", p_respawn, 0, 1),
    )


def _interval(
    name: str, value: Any, least: float, most: float = float("inf")
) -> Interval:
    low, high = pair = _pair(value)
    if not least <= low <= high <= most:
        raise ValueError(f"{name}={value!r} must lie in [{least}, {most}], low first")
    if low == 0 < high:
        raise ValueError(f"{name}={value!r} is log-uniform, so low must be above 0")
    return pair


def _pair(value: Any) -> Interval:
    return (value, value) if isinstance(value, int | float) else tuple(value)
