"""The published formulas in the language, and how the golden files call their parts."""

import contextlib
import pathlib

import jax

from learned_opt_rl.expressions import Function, parse

SHIPPED = pathlib.Path(__file__).parents[2] / "pretrained" / "discovered"
# Alternatives and parts that the golden files have values of, but no artifact.
OTHERS = pathlib.Path(__file__).parent / "published"
FILES = {
    **{path.parent.name: path for path in SHIPPED.glob("*/expression.txt")},
    **{path.stem: path for path in OTHERS.glob("*.txt")},
}
# No golden values: the authors evaluated the formula on raw inputs only.
IDS = sorted(FILES.keys() - {"no_features_symbolic_ant_normalised"})

# Golden name -> name in the language.
INPUTS = {"w": "p", "d": "dorm", "t": "iteration", "ratio": "r", "advantage": "A"}
MEMORY = {"var": "v", "var1": "v1", "var2": "v2"}


def source(name: str) -> str:
    return FILES[name].read_text()


def load(name: str) -> Function:
    return parse(source(name))


@contextlib.contextmanager
def x64():
    """Float64 inside the block, in old and new versions of jax."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)
