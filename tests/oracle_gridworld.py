"""Grid worlds in plain loops: where actions lead, and values by enumeration."""

import itertools
import math

MOVES = [(-1, 0), (1, 0), (0, -1), (0, 1), (0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)]


def effect(level, cell, action):
    """The next cell, and the cell collected from or None."""
    height, width = int(level.height), int(level.width)
    rows, columns = MOVES[action % 9]
    row, column = cell // width + rows, cell % width + columns
    there = row * width + column
    open_ = 0 <= row < height and 0 <= column < width and not level.walls[there]
    if level.auto_collect:
        return (there, there) if open_ else (cell, cell)
    if action < 9:
        return (there if open_ else cell), None
    return cell, (there if open_ else None)


def outcomes(level, cell, present, action):
    """What can follow: (probability, ended, next cell, next presence, reward)."""
    to, place = effect(level, cell, action)
    n = int(level.num_objects)
    collected = [present[i] and int(level.cells[i]) == place for i in range(n)]
    reward = sum(float(level.rewards[i]) for i in range(n) if collected[i])
    end = min(1, sum(float(level.p_terminate[i]) for i in range(n) if collected[i]))
    chances = []
    for i in range(n):
        p = float(level.p_respawn[i])
        if collected[i]:
            chances.append({False: 1.0})
        elif present[i]:
            chances.append({True: 1.0})
        else:
            chances.append({True: p, False: 1 - p})
    for following in itertools.product(*chances):
        p = math.prod(chances[i][there] for i, there in enumerate(following))
        yield p, end, to, following, reward


def values(level, num_actions):
    """``{(cell, presence): value}`` at the beginning of an episode."""
    n = int(level.num_objects)
    cells = [
        cell
        for cell in range(int(level.height) * int(level.width))
        if not level.walls[cell]
    ]
    states = list(itertools.product(cells, itertools.product([False, True], repeat=n)))
    value = dict.fromkeys(states, 0.0)
    for _ in range(int(level.max_steps)):
        value = {
            (cell, present): max(
                sum(
                    p * (reward + (1 - end) * value[to, following])
                    for p, end, to, following, reward in outcomes(
                        level, cell, present, action
                    )
                )
                for action in range(num_actions)
            )
            for cell, present in states
        }
    return value
