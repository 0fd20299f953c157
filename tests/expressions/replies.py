"""Functions as language models write them: published rules and common variants.

``replies/*.txt`` has a file per signature. An entry begins with ``## name``, then
``(further arguments)`` and, where the code cannot be converted, ``-> the repair`` that
the message has to name.
"""

import pathlib

_MOMENTA = "m_0_1, m_0_5, m_0_9, m_0_99, m_0_999, m_0_9999"
_OPEN = f"p, {_MOMENTA}, l_p, b_p, t_p, dorm, g, rand, lr"
_SIGNATURES = {
    "archive": "w, g, var1, var2, t, d, t_p, b_p, l_p, key",
    "no_features": f"p, {_MOMENTA}, g, lr",
    "open": _OPEN,
    "recurrent": f"{_OPEN}, iteration, var",
    "drift": "ratio, advantage, epsilon",
    "whole": "",  # The entries are whole sources.
}

CONVERTED: dict[str, tuple[str, str]] = {}
"""By name, the kind and the source of what is converted."""
HINTS: dict[str, tuple[str, str, str]] = {}
"""By name, the kind, the source and the repair of what is not."""


def _read(name: str, arguments: str) -> None:
    path = pathlib.Path(__file__).parent / "replies" / f"{name}.txt"
    kind = "drift" if name == "drift" else "optimizer"
    for entry in ("\n" + path.read_text()).split("\n## ")[1:]:
        title, _, source = entry.partition("\n")
        title, _, hint = title.partition(" -> ")
        title, _, further = title.partition(" (")
        if arguments:
            header = ", ".join([arguments, further[:-1]] if further else [arguments])
            body = "\n    ".join(source.strip("\n").split("\n"))
            source = f"def f({header}):\n    {body}\n"
        if hint:
            HINTS[title] = kind, source, hint
        else:
            CONVERTED[title] = kind, source


for _name, _arguments in _SIGNATURES.items():
    _read(_name, _arguments)
