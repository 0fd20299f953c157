"""Which statements and names a function's result depends on."""

from collections.abc import Collection, Sequence

from learned_opt_rl.expressions._nodes import Assign, Expression, names_in


def needed(
    body: Sequence[Assign], result: Expression, slots: Collection[str]
) -> tuple[list[bool], frozenset[str]]:
    """Follow the result backwards through the body, and from step to step.

    Args:
        body: The assignments, in order.
        result: What is returned.
        slots: Names whose last value is carried to the next step.

    Returns:
        For each assignment whether it influences this or a later result, and the
        names whose value at the start does.
    """
    reads = [names_in(assignment.value) for assignment in body]
    carried: frozenset[str] = frozenset()
    while True:
        live = names_in(result) | carried
        used = [False] * len(body)
        for index in range(len(body) - 1, -1, -1):
            target = body[index].target
            used[index] = target in live
            if used[index]:
                live = (live - {target}) | reads[index]
        # A slot read at the start keeps its last value alive, one step earlier.
        grown = carried | (live & frozenset(slots))
        if grown == carried:
            return used, live
        carried = grown
