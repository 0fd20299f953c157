"""From the Python that language models write to a function of the language."""

import ast
import dataclasses
import textwrap
from typing import Any, TypeAlias

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._function import Function, function_of
from learned_opt_rl.expressions._language import Assign, Expression, Kind, Name, shorten
from learned_opt_rl.expressions._text import check_length, place, python_tree
from learned_opt_rl.expressions.convert._body import Body
from learned_opt_rl.expressions.convert._kinds import Key, Value, defaults_of, refuse
from learned_opt_rl.expressions.convert._static import literal

_MOMENTA = ("m_0_1", "m_0_5", "m_0_9", "m_0_99", "m_0_999", "m_0_9999")
_OPEN = ("p", *_MOMENTA, "l_p", "b_p", "t_p", "dorm", "g", "rand", "lr")
_ARCHIVE = ("w", "g", "var1", "var2", "t", "d", "t_p", "b_p")
_RENAMED = {"ratio": "r", "advantage": "A", "epsilon": "eps"}
_RENAMED |= {"w": "p", "d": "dorm", "t": "iteration"}
# The clip parameter that the prompts of the paper give to proposals.
_DEFAULT_EPSILON = 0.2

# By argument, a default as it is written, and its value.
_Options: TypeAlias = dict[str, tuple[ast.expr, Any]]


@dataclasses.dataclass(frozen=True)
class _Interface:
    """The arguments that call a proposal, and which of them are memory."""

    arguments: tuple[str, ...]
    slots: tuple[str, ...] = ()

    def fits(self, arguments: list[str]) -> bool:
        if "key" in self.arguments:  # called by keyword, so in any order
            return sorted(arguments) == sorted(self.arguments)
        return tuple(arguments) == self.arguments

    def body(self, kind: Kind) -> Body:
        """Start the conversion of a proposal that has this interface."""
        fix = "write the expression without them"
        if "rand" in self.arguments:
            fix = "use the argument rand, which is standard normal noise"
        elif "key" in self.arguments:
            fix = "use jax.random.normal(key, g.shape), uniform or bernoulli, once"
        given: dict[str, Name | Key] = {
            name: Name(_RENAMED.get(name, name)) for name in self.arguments
        }
        if "key" in given:
            given["key"] = Key()
        return Body(kind, given, self.slots, fix)


_INTERFACES: dict[str, tuple[_Interface, ...]] = {
    "drift": (_Interface(("ratio", "advantage", "epsilon")),),
    "optimizer": (
        _Interface(("p", *_MOMENTA, "g", "lr")),
        _Interface(_OPEN),
        _Interface((*_OPEN, "iteration", "var"), slots=("var",)),
        _Interface((*_ARCHIVE, "l_p", "key"), slots=("var1", "var2")),
        _Interface((*_ARCHIVE, "key"), slots=("var1", "var2")),
    ),
}


def from_python(source: str, kind: Kind) -> Function:
    """Turn one Python function, as a language model writes it, into a `Function`.

    The text is only parsed (``ast.parse``), never run. It holds one function of one of
    the published interfaces; imports of jax, numpy and math are allowed, above the
    function or in it, and so are constants and lambdas above it. The body assigns,
    unpacks, loops over literal ranges and tuples, defines functions, calls the
    functions of ``jnp``, ``jax.lax``, ``jax.nn`` and ``jax.scipy.special`` that this
    language can express, and ends in ``return``. A fence and indentation around the
    code are left out, and so are statements without effect on the result.

    numpy is read as ``jnp``, and ``ravel`` as the array itself. ``jnp.where``,
    ``lax.select`` and ``lax.cond`` become ``where``: all branches are evaluated.
    Conditions count as in jax: a sum of conditions is true where either is. Code that
    jax computes in integers with another result is refused. Tests, indices and the
    turns of loops are decided where Python knows them before the function runs.

    Further arguments need a default. A number becomes a constant, unless it decides a
    test or a loop; a truth, a text, None or a tuple is written in. ``epsilon`` becomes
    the constant ``eps``, 0.2 unless the signature says otherwise; ``w``, ``d``, ``t``
    become the inputs ``p``, ``dorm``, ``iteration``; the six ``m_...`` are momenta;
    ``var``, ``var1`` and ``var2`` are memory. One draw of noise with ``key`` becomes
    ``rand``.

    Args:
        source: At most 16384 characters.
        kind: ``"drift"``, for ``(ratio, advantage, epsilon)``; or ``"optimizer"``, for
            ``(p, m_0_1, m_0_5, m_0_9, m_0_99, m_0_999, m_0_9999, g, lr)``, for
            ``(p, m_0_1, ..., l_p, b_p, t_p, dorm, g, rand, lr)``, for the same and
            ``iteration, var``, which returns ``(update, var)``, or for ``(w, g, var1,
            var2, t, d, t_p, b_p, l_p, key)``, which returns ``(update, var1, var2)``
            and may order its arguments freely and omit ``l_p``.

    Raises:
        ExpressionError: The text cannot be converted. The message gives the line, the
            construct and the fix; ``category`` sorts it.
        TypeError: ``source`` is not a string.

    References:
        Goldie et al. 2025, "How Should We Meta-Learn Reinforcement Learning
        Algorithms?", supplementary D (the interfaces).

    Example:
        >>> f = from_python(
        ...     '''
        ... def squared_log(ratio, advantage, epsilon):
        ...     x = jnp.log(ratio)
        ...     return jnp.abs(advantage) * jnp.maximum(jnp.abs(x) - epsilon, 0.0) ** 2
        ... ''',
        ...     "drift",
        ... )
        >>> print(f.to_text(), end="")
        drift
        inputs r, A
        constant eps = 0.2
        x = log(r)
        return abs(A) * max(abs(x) - eps, 0)**2
    """
    if not isinstance(source, str):
        raise TypeError(f"source is {type(source).__name__}; pass a string")
    if kind not in _INTERFACES:
        raise ExpressionError(
            f"kind={kind!r}; pass 'optimizer' or 'drift'", category="call_error"
        )
    try:
        check_length(source)
        return _converted(python_tree(_plain(source)), kind)
    except RecursionError:
        problem = "calls of nested functions nest too deeply; give parts a name"
        raise ExpressionError(problem, category="size_error") from None


def _converted(module: ast.Module, kind: Kind) -> Function:
    definition, interface, options = _proposal(module, kind)
    body = interface.body(kind)
    body.module([s for s in module.body if s is not definition])
    constants: dict[str, float] = {}
    if kind == "drift":
        _, constants["eps"] = options.pop("epsilon", (None, _DEFAULT_EPSILON))
    for name, (default, found) in options.items():
        declared = None
        if type(found) in (int, float) and name not in body.modules:
            declared = body.values.constant(name, found)
        if declared is None:
            # Not a number, or the language has this name for something else.
            value = body.value(default)
            body.bind(ast.copy_location(ast.Name(name), default), value)
        else:
            constants[name] = found
            body.scope[name] = declared
    result = _returned(body.run(definition), body, interface, definition.body[-1])
    # What decided a test or the turns of a loop cannot be tuned.
    decided = [name for name in constants if name in body.values.decided]
    fixed = [Assign(name, literal(constants.pop(name))) for name in decided]
    # The sum with 0.0 is not -0.0.
    constants = {name: number + 0.0 for name, number in constants.items()}
    assignments = [*fixed, *body.values.assignments]
    return function_of(kind, assignments, result, constants, interface.slots)


def _plain(source: str) -> str:
    """Return code without what often surrounds it: a fence, odd spaces, indentation."""
    lines = source.removeprefix("\ufeff").replace("\xa0", " ").split("\n")
    fences = [i for i, line in enumerate(lines) if line.lstrip().startswith("```")]
    starts = [i for i, line in enumerate(lines) if line.lstrip().startswith("def ")]
    if fences and (len(fences) == 1 or fences[:1] < starts[:1]):
        # Empty lines keep the numbers of the others.
        opened = fences[0] if fences[:1] < starts[:1] else -1
        closed = next((i for i in fences if i > opened), len(lines))
        lines = [line if opened < i < closed else "" for i, line in enumerate(lines)]
    return textwrap.dedent("\n".join(lines))


def _proposal(
    module: ast.Module, kind: Kind
) -> tuple[ast.FunctionDef, _Interface, _Options]:
    """Return the function of a module that follows an interface, and its options."""
    functions = [s for s in module.body if isinstance(s, ast.FunctionDef)]
    if not functions:
        problem = "the source has no function; write: def name(...):"
        raise refuse((1, 1), problem, "structure_error")
    fitting = [one for one in functions if _interface(one, kind)]
    definition = (fitting or functions)[-1]
    helpers = [one for one in functions if one is not definition]
    if helpers:
        problem = "only one function is allowed; move this into the body of "
        problem += definition.name[:64]
        raise refuse(helpers[0], problem, "structure_error")
    if definition.decorator_list:
        at = place(definition.decorator_list[0])
        raise refuse(at, "this is a decorator; remove it", "structure_error")
    given, at = definition.args, place(definition)
    if given.vararg or given.kwarg or None in given.kw_defaults or given.posonlyargs:
        problem = "only plain arguments are allowed; drop * and /"
        raise refuse(at, problem, "signature_error")
    interface = _interface(definition, kind)
    names = [argument.arg for argument in given.args]
    if interface is None:
        arguments = [i.arguments for i in _INTERFACES[kind]]
        closest = max(arguments, key=lambda wanted: len({*wanted} & {*names}))
        wanted = f"write def {definition.name[:64]}({', '.join(closest)})"
        problem = f"the arguments are ({shorten(', '.join(names), 120)}); {wanted}"
        raise refuse(at, problem, "signature_error")
    return definition, interface, _options(given, interface)


def _options(given: ast.arguments, interface: _Interface) -> _Options:
    """Return the defaults of a signature by argument, as written and their values."""
    options: _Options = {}
    for name, default in defaults_of(given).items():
        if name in interface.arguments and name != "epsilon":
            # All of these are given, so that a default has no effect.
            if isinstance(default, ast.Constant) and default.value is None:
                continue
            problem = "only epsilon and further arguments may have a default; remove it"
            raise refuse(default, problem, "signature_error")
        found = _literal(default)
        if found is default or (name == "epsilon" and type(found) not in (int, float)):
            problem = f"the default of {shorten(name)} is not a number; write one"
            raise refuse(default, problem, "signature_error")
        options[name] = default, found
    return options


def _literal(default: ast.expr) -> Any:
    """Return the number, text, None or tuple that a default is, or its syntax."""
    try:
        return ast.literal_eval(default)
    except (TypeError, ValueError):
        return default


def _interface(definition: ast.FunctionDef, kind: Kind) -> _Interface | None:
    """Return the interface of a signature, whose further arguments have defaults."""
    names = [argument.arg for argument in definition.args.args]
    for further in range(len(definition.args.defaults) + 1):
        for interface in _INTERFACES[kind]:
            if interface.fits(names[: len(names) - further]):
                return interface
    return None


def _returned(
    value: Value, body: Body, interface: _Interface, last: ast.stmt
) -> Expression:
    """Return the result, after the last assignments to memory."""
    parts = value if isinstance(value, tuple) else (value,)
    wanted = ("the update", *interface.slots)
    packed = isinstance(value, tuple) == (len(wanted) > 1)
    if not packed or len(parts) != len(wanted) or None in parts:
        problem = f"{len(parts)} values are returned; return {', '.join(wanted)}"
        raise refuse(last, problem, "return_error")
    result, *slots = [
        part if isinstance(part, Expression) else body.values.number(part, place(last))
        for part in parts
    ]
    if not body.values.type_of(result).elementwise:
        problem = "the result is one number; return an array like the parameters"
        raise refuse(last, problem, "shape_error")
    return body.values.finish(result, dict(zip(interface.slots, slots, strict=True)))
