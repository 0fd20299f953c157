"""What to write instead of constructs that a formula does not have."""

import ast
import difflib
from collections.abc import Iterable

from learned_opt_rl.expressions._language import shorten

WHOLE_ARRAY = "the truth value of a whole array, which is ambiguous; write"
INSTEAD: dict[type[ast.AST], str] = {
    ast.If: "if decides once for all elements; write jnp.where(condition, a, b)",
    ast.IfExp: "a if c else b decides once for all elements; write jnp.where(c, a, b)",
    ast.While: "a while loop may never end; write the steps out",
    ast.BoolOp: f"'and' and 'or' need {WHOLE_ARRAY} (a) & (b), (a) | (b)",
    ast.Compare: f"a < b < c needs {WHOLE_ARRAY} (a < b) & (b < c)",
    ast.Not: f"not needs {WHOLE_ARRAY} ~condition",
    ast.JoinedStr: "a formatted string has no use in an expression; remove it",
    ast.Try: "errors cannot be caught in an expression; remove try",
    ast.With: "with has no use in an expression; remove it",
    ast.Assert: "assert has no use in an expression; remove it",
    ast.ClassDef: "a class has no use in an expression; remove it",
    ast.Dict: "a dict cannot be converted; give each value a name",
    ast.Starred: "* before an argument cannot be converted; write the arguments out",
    ast.MatMult: "@ mixes elements; write an expression per element",
    ast.Raise: "errors cannot be raised in an expression; remove raise",
    ast.Is: "Python's Is is not part of the language except for None; write ==",
}
SHAPES = ("shape", "T", "ndim", "at")
_SHAPED = "all arrays here have the shape of the parameters; remove it"
_OUT = "write the expression without it"
# Names, and what to do without them, after "is not part of the language; ".
_WITHOUT = (
    (
        "quantile percentile sort argsort cumsum cumprod matmul tensordot einsum outer "
        "inner qr svd inv eigh convolve roll diff softmax log_softmax logsumexp "
        "standardize prod ptp average top_k fft",
        "it mixes elements, which an expression per element cannot; use mean, norm or "
        "max",
    ),
    (
        "expand_dims squeeze transpose tile repeat concatenate moveaxis atleast_1d "
        "atleast_2d swapaxes",
        f"it changes a shape; {_SHAPED}",
    ),
    (
        "arange linspace eye hstack vstack",
        "it makes an array of another shape; write the numbers out as a tuple",
    ),
    (
        "switch while_loop fori_loop scan reduce",
        "it is a program; write nested jnp.where, or the steps out",
    ),
    ("piecewise interp", "write nested jnp.where"),
    ("int32 int64", "it makes integers; leave it out"),
    ("inf nan", "use a number up to 1e12, or bound one side only"),
    ("jit vmap checkpoint remat", "an expression needs none; call the function itself"),
    ("grad value_and_grad jvp vjp", "write the derivative out"),
    ("print debug isinstance breakpoint", "it changes no result; remove it"),
    ("callback", "it runs Python; write the expression out"),
    ("tree_map map", "write the expression of one array"),
    ("set add", "write jnp.where in place of .at[...]"),
    ("dot", "write jnp.sum(a * b) for the scalar product"),
    ("global_norm", "write jnp.linalg.norm(g)"),
    ("count_nonzero", "write jnp.sum(x != 0)"),
    ("isclose", "write jnp.abs(a - b) < 1e-8"),
    ("cdf", "write 0.5 * (1 + jax.scipy.special.erf(x / 2**0.5))"),
    *(
        (name, f"write jnp.{name}(x)")
        for name in ("floor", "ceil", "round", "any", "all")
    ),
)
_LACKING = {name: hint for names, hint in _WITHOUT for name in names.split()}


def of_call(path: str, known: Iterable[str]) -> str:
    """Return the message about a function of jax that the language does not have."""
    module, _, name = path.rpartition(".")
    hint = _LACKING.get(name, "")
    for part in ("debug", "callback"):
        hint = hint or (_LACKING[part] if part in path else "")
    if not hint and module in {one.rpartition(".")[0] for one in known}:
        hint = _near(name, {one.rpartition(".")[2] for one in known})
    return f"{path[:64]} is not part of the language; {hint or _OUT}"


def lacking(kind: str, name: str) -> str:
    """Return the message about a function of Python, or an attribute of an array."""
    if kind == "attribute" and name in SHAPES:
        return f".{name} changes or reads a shape; {_SHAPED}"
    hint = _LACKING.get(name, _OUT)
    return f"the {kind} {shorten(name)!r} is not part of the language; {hint}"


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
