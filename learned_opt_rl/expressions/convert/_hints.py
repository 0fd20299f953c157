"""What to write instead of constructs that a formula does not have."""

import ast
import difflib
from collections.abc import Iterable

from learned_opt_rl.expressions._language import shorten

_IN_A_FORMULA = "has no use in an expression; remove it"
WHOLE_ARRAY = "the truth value of a whole array, which is ambiguous; write"
INSTEAD: dict[type[ast.AST], str] = {
    ast.If: "if decides once for all elements; write jnp.where(condition, a, b)",
    ast.IfExp: "a if c else b decides once for all elements; write jnp.where(c, a, b)",
    ast.While: "a while loop may never end; write the steps out",
    ast.BoolOp: f"'and' and 'or' need {WHOLE_ARRAY} (a) & (b), (a) | (b)",
    ast.Compare: f"a < b < c needs {WHOLE_ARRAY} (a < b) & (b < c)",
    ast.Not: f"not needs {WHOLE_ARRAY} ~condition",
    ast.JoinedStr: f"a formatted string {_IN_A_FORMULA}",
    ast.Try: "errors cannot be caught in an expression; remove try",
    ast.With: f"with {_IN_A_FORMULA}",
    ast.Assert: f"assert {_IN_A_FORMULA}",
    ast.ClassDef: f"a class {_IN_A_FORMULA}",
    ast.DictComp: "a comprehension of a dict cannot be converted; write names",
    ast.Dict: "a dict cannot be converted; give each value a name",
    ast.Starred: "* before an argument cannot be converted; write the arguments out",
    ast.AugAssign: "a list or tuple cannot be changed in place; write xs = xs + [x]",
    ast.MatMult: "@ mixes elements; write an expression per element",
    ast.Raise: "errors cannot be raised in an expression; remove raise",
    ast.Is: "Python's Is is not part of the language except for None; write ==",
}
SHAPES = ("shape", "T", "ndim", "reshape", "ravel", "flatten", "at")
_SHAPED = "all arrays here have the shape of the parameters; remove it"
_MIXES = "mixes elements, which an expression per element cannot; use mean, norm or max"
_OUT = "write the expression without it"
_MIXING = """
quantile percentile sort argsort cumsum cumprod matmul tensordot einsum outer inner
qr svd inv eigh convolve roll diff softmax log_softmax logsumexp standardize prod
ptp average top_k fft
"""
_SHAPING = """
expand_dims squeeze transpose tile repeat concatenate moveaxis atleast_1d atleast_2d
swapaxes
"""
# What to do without these functions, after "is not part of the language; ".
_LACKING: dict[str, str] = {
    **dict.fromkeys(_MIXING.split(), f"it {_MIXES}"),
    **dict.fromkeys(_SHAPING.split(), f"it changes a shape; {_SHAPED}"),
    **dict.fromkeys(
        ("arange", "linspace", "eye", "hstack", "vstack"),
        "it makes an array of another shape; write the numbers out as a tuple",
    ),
    **dict.fromkeys(
        ("switch", "while_loop", "fori_loop", "scan"),
        "it is a program; write nested jnp.where, or the steps out",
    ),
    **dict.fromkeys(("piecewise", "interp"), "write nested jnp.where"),
    **dict.fromkeys(("int32", "int64"), "it makes integers; leave it out"),
    **dict.fromkeys(("inf", "nan"), "use a number up to 1e12, or bound one side only"),
    **dict.fromkeys(
        ("jit", "vmap", "checkpoint", "remat"),
        "an expression needs none; call the function itself",
    ),
    **dict.fromkeys(
        ("grad", "value_and_grad", "jvp", "vjp"), "write the derivative out"
    ),
    **dict.fromkeys(
        ("print", "debug", "isinstance", "breakpoint"),
        "it changes no result; remove it",
    ),
    "callback": "it runs Python; write the expression out",
    **dict.fromkeys(("tree_map", "map"), "write the expression of one array"),
    **dict.fromkeys(("set", "add"), "write jnp.where in place of .at[...]"),
    "global_norm": "write jnp.linalg.norm(g)",
    "count_nonzero": "write jnp.sum(x != 0)",
    "isclose": "write jnp.abs(a - b) < 1e-8",
    "cdf": "write 0.5 * (1 + jax.scipy.special.erf(x / 2**0.5))",
    "floor": "write jnp.floor(x)",
    "ceil": "write jnp.ceil(x)",
    "reduce": "write the steps out",
    "round": "write jnp.round(x)",
    "any": "write jnp.any(x)",
    "all": "write jnp.all(x)",
}


def of_call(path: str, known: Iterable[str]) -> str:
    """Return the message about a function of jax that the language does not have."""
    module, _, name = path.rpartition(".")
    hint = _LACKING.get(name, "")
    for part in ("debug", "callback"):
        hint = hint or (_LACKING[part] if part in path else "")
    if not hint and module in {one.rpartition(".")[0] for one in known}:
        hint = _near(name, {one.rpartition(".")[2] for one in known})
    return f"{path[:64]} is not part of the language; {hint or _OUT}"


def of_attribute(name: str) -> str:
    """Return the message about an attribute that the language does not have."""
    if name in SHAPES:
        return f".{name} changes or reads a shape; {_SHAPED}"
    hint = _LACKING.get(name, _OUT)
    return f"the attribute {shorten(name)!r} is not part of the language; {hint}"


def of_builtin(name: str) -> str:
    """Return the message about a function of Python that the language does not have."""
    hint = _LACKING.get(name, _OUT)
    return f"the function {shorten(name)!r} is not part of the language; {hint}"


def of_name(name: str, known: Iterable[str]) -> str:
    """Return what to do about a name that nothing was assigned to."""
    if name.startswith("__"):
        return "Python's own names are not known here; remove it"
    return _near(name, known) or "assign it before, or use an argument"


def _near(name: str, known: Iterable[str]) -> str:
    """Suggest names that differ in a letter or two; others would mislead."""
    near = difflib.get_close_matches(name[:64], sorted(known), 3, cutoff=0.75)
    shown = " or ".join(repr(shorten(one)) for one in near)
    return f"did you mean {shown}?" if near else ""
