"""The words of a command line before tyro reads them."""

from collections.abc import Sequence

from learned_opt_rl.checks import nearest

# Options that take one value each time. Several values may also follow one name.
_REPEATABLE = (
    "--environments",
    "--failure",
    "--set",
    "--values",
    "--only",
    "--baselines",
    "--sinks",
)
# Positional arguments that a command needs before an option may take several values.
_NEEDED = {
    "compare": 1,
    "evaluate": 1,
    "generalize": 2,
    "promote": 1,
    "report": 1,
    "tune": 1,
}
# Options without a value.
_FLAGS = ("--dry-run", "--each", "--force", "--json", "--quiet", "--tensorboard")
# Their other options still take all values after one name.
_PROPOSALS = ("propose", "discover", "refine", "symbolic")


def expanded(words: Sequence[str]) -> list[str]:
    """Return the words with the name of an option before each of its values.

    In ``compare adam --environments A B`` both are environments. In ``compare
    --environments A adam`` the option takes one value, so that it cannot take the
    rules. Settings are recognized by their equals sign.

    Example:
        >>> expanded(["compare", "adam", "--environments", "A", "B"])
        ['compare', 'adam', '--environments', 'A', '--environments', 'B']
        >>> expanded(["compare", "--set", "a=1", "b=2", "adam"])
        ['compare', '--set', 'a=1', '--set', 'b=2', 'adam']
        >>> expanded(["compare", "--seeds=2", "adam", "--environments", "A", "B"])
        ['compare', '--seeds=2', 'adam', '--environments', 'A', '--environments', 'B']
    """
    start = 1 + (words[:1] == ["train"])
    command = words[start - 1] if len(words) >= start else ""
    repeatable = ("--set",) if command in _PROPOSALS else _REPEATABLE
    needed, given = _NEEDED.get(command, 0), 0
    made, option, values = list(words[:start]), "", 0
    for word in words[start:]:
        if word.startswith("--"):
            complete = word in _FLAGS or "=" in word
            option, values = ("" if complete else word), 0
        elif option and values == 0:
            values = 1
        elif option in repeatable and (given >= needed or "=" in word):
            made.append(option)
        else:  # positional, as all that follow it until the next option
            given, option = given + 1, ""
        made.append(word)
    return made


def suggestion(words: Sequence[str], commands: Sequence[str]) -> str:
    """Return the command that was probably meant, empty if it exists or none is near.

    Example:
        >>> suggestion(["compre", "adam"], ["compare", "list"])
        "did you mean 'compare'?"
    """
    if not words or words[0].startswith("-") or words[0] in commands:
        return ""
    near = nearest(words[0], commands, 1)
    return f"did you mean {near[0]!r}?" if near else ""
