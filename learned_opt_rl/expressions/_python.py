"""From the Python that language models write: the function around the body."""

import ast
import dataclasses
import warnings
from collections.abc import Sequence

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._declarations import function_of
from learned_opt_rl.expressions._function import Function
from learned_opt_rl.expressions._nodes import Expression, Name
from learned_opt_rl.expressions._python_body import Body
from learned_opt_rl.expressions._python_errors import refuse
from learned_opt_rl.expressions._python_values import Refused, Value
from learned_opt_rl.expressions._vocabulary import MAX_CHARACTERS, MAX_DEPTH, Kind

_MOMENTA = ("m_0_1", "m_0_5", "m_0_9", "m_0_99", "m_0_999", "m_0_9999")
_OPEN = ("p", *_MOMENTA, "l_p", "b_p", "t_p", "dorm", "g", "rand", "lr")
_RENAMED = {"ratio": "r", "advantage": "A", "epsilon": "eps"}
_RENAMED |= {"w": "p", "d": "dorm", "t": "iteration"}
_DEFAULT_EPSILON = 0.2


@dataclasses.dataclass(frozen=True)
class _Interface:
    """Arguments by which a proposal is called, and which of them are memory."""

    arguments: tuple[str, ...]
    slots: tuple[str, ...] = ()
    ordered: bool = True
    optional: tuple[str, ...] = ()

    def fits(self, arguments: list[str]) -> bool:
        required = set(self.arguments) - set(self.optional)
        if self.ordered:
            return tuple(arguments) == self.arguments
        return required <= set(arguments) <= set(self.arguments)


_INTERFACES: dict[str, tuple[_Interface, ...]] = {
    "drift": (_Interface(("ratio", "advantage", "epsilon")),),
    "optimizer": (
        _Interface(("p", *_MOMENTA, "g", "lr")),
        _Interface(_OPEN),
        _Interface((*_OPEN, "iteration", "var"), slots=("var",)),
        _Interface(
            ("w", "g", "var1", "var2", "t", "d", "t_p", "b_p", "l_p", "key"),
            slots=("var1", "var2"),
            ordered=False,
            optional=("l_p",),
        ),
    ),
}


def from_python(source: str, kind: Kind) -> Function:
    """Turn one Python function, as a language model writes it, into a `Function`.

    The text is only parsed (``ast.parse``), never run. It holds one function of one
    of the published interfaces; a leading ``import jax`` and its like are allowed,
    there or in the body. The body assigns, unpacks, loops over literal ranges and
    tuples, calls the functions of ``jnp``, ``jax.lax`` and ``jax.nn`` that this
    language has, and ends in ``return``. ``jnp.where``, ``lax.select`` and
    ``lax.cond`` become ``where``: all branches are evaluated. What has no effect on
    the result is left out.

    Args:
        source: At most 16384 characters.
        kind: ``"drift"``, for ``(ratio, advantage, epsilon)``; or ``"optimizer"``, for
            ``(p, m_0_1, m_0_5, m_0_9, m_0_99, m_0_999, m_0_9999, g, lr)``, for
            ``(p, m_0_1, ..., l_p, b_p, t_p, dorm, g, rand, lr)``, for the same and
            ``iteration, var``, which returns ``(update, var)``, or for ``(w, g, var1,
            var2, t, d, t_p, b_p, l_p, key)``, which returns ``(update, var1, var2)``
            and may order its arguments freely and lack ``l_p``.

    Returns:
        The function. ``epsilon`` is its constant ``eps``, 0.2 unless the signature
        says otherwise; ``w``, ``d``, ``t`` are its inputs ``p``, ``dorm``,
        ``iteration``; the six ``m_...`` are momenta; ``var`` and its like are memory.

    Raises:
        ExpressionError: The text has no equal in this language. The message names the
            line, the construct and what to write instead; ``category`` sorts it.
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
        return abs(A) * max(abs(x) - eps, 0)^2
    """
    if not isinstance(source, str):
        raise TypeError(f"source is {type(source).__name__}; give a string")
    if kind not in _INTERFACES:
        raise ExpressionError(
            f"kind={kind!r}; pass 'optimizer' or 'drift'", category="call_error"
        )
    try:
        definition, imports = _definition(_parsed(source))
        return _converted(definition, imports, kind)
    except (RecursionError, MemoryError):
        raise ExpressionError(
            "the Python is nested too deeply; give parts a name", category="size_error"
        ) from None


def _parsed(source: str) -> ast.Module:
    if len(source) > MAX_CHARACTERS:
        raise ExpressionError(
            f"the Python has {len(source)} characters; the most is {MAX_CHARACTERS}",
            1,
            1,
            "size_error",
        )
    try:
        with warnings.catch_warnings():
            # Python remarks on odd literals, which are refused or harmless here.
            warnings.simplefilter("ignore")
            module = ast.parse(source)
    except SyntaxError as problem:
        raise ExpressionError(
            f"this is not Python: {problem.msg}",
            problem.lineno or 1,
            problem.offset or 1,
            "syntax_error",
        ) from None
    except ValueError as problem:
        # Null bytes, lone surrogates, integers of thousands of digits.
        raise ExpressionError(f"this is not Python: {problem}") from None
    _check_depth(module)
    return module


def _check_depth(module: ast.Module) -> None:
    pending: list[tuple[ast.AST, int]] = [(module, 0)]
    while pending:
        node, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise refuse(
                node,
                f"the Python is more than {MAX_DEPTH} levels deep; give parts a name",
                "size_error",
            )
        pending.extend((child, depth + 1) for child in ast.iter_child_nodes(node))


def _definition(
    module: ast.Module,
) -> tuple[ast.FunctionDef, list[ast.Import | ast.ImportFrom]]:
    """The only function of a module, and the imports before it."""
    imports = [s for s in module.body if isinstance(s, ast.Import | ast.ImportFrom)]
    rest = [s for s in module.body if s not in imports]
    functions = [s for s in rest if isinstance(s, ast.FunctionDef)]
    if not functions:
        raise ExpressionError(
            "there is no function; write: def name(...):",
            1,
            1,
            "structure_error",
        )
    other = next((s for s in rest if s is not functions[-1]), None)
    if other is not None:
        raise refuse(
            other,
            "one function definition has to stand alone; move what else there is into "
            "its body",
            "structure_error",
        )
    definition = functions[0]
    if definition.decorator_list:
        raise refuse(
            definition.decorator_list[0], "a decorator; remove it", "structure_error"
        )
    return definition, imports


def _converted(
    definition: ast.FunctionDef, imports: Sequence[ast.stmt], kind: Kind
) -> Function:
    interface = _interface(definition, kind)
    body = Body(kind, _arguments(interface), interface.slots)
    for statement in imports:
        body.statement(statement)
    returned = body.run(definition)
    result = _returned(returned, body, interface, definition)
    constants = {"eps": _epsilon(definition)} if kind == "drift" else {}
    return function_of(kind, body.assignments, result, constants, interface.slots)


def _interface(definition: ast.FunctionDef, kind: Kind) -> _Interface:
    """The published interface that a signature follows."""
    given = definition.args
    if given.vararg or given.kwarg or given.kwonlyargs or given.posonlyargs:
        raise refuse(
            definition, "plain arguments only; drop * and /", "signature_error"
        )
    names = [argument.arg for argument in given.args]
    for interface in _INTERFACES[kind]:
        if interface.fits(names):
            return interface
    closest = min(
        _INTERFACES[kind],
        key=lambda i: len(set(i.arguments).symmetric_difference(names)),
    )
    wanted = ", ".join(closest.arguments)
    raise refuse(
        definition,
        f"the arguments are ({', '.join(names)}); write "
        f"def {definition.name[:64]}({wanted})",
        "signature_error",
    )


def _arguments(interface: _Interface) -> dict[str, Value]:
    bindings: dict[str, Value] = {
        name: Name(_RENAMED.get(name, name)) for name in interface.arguments
    }
    if "key" in bindings:
        bindings["key"] = Refused("random numbers cannot be drawn here; drop key")
    return bindings


def _epsilon(definition: ast.FunctionDef) -> float:
    """The default of the last argument, epsilon; no other argument may have one."""
    defaults = definition.args.defaults
    if not defaults:
        return _DEFAULT_EPSILON
    value = defaults[-1].value if isinstance(defaults[-1], ast.Constant) else None
    if (
        len(defaults) > 1
        or isinstance(value, bool)
        or not isinstance(value, int | float)
    ):
        raise refuse(
            defaults[0], "only epsilon may have a default, a number", "signature_error"
        )
    return float(value)


def _returned(
    value: Value, body: Body, interface: _Interface, definition: ast.FunctionDef
) -> Expression:
    """The result, after the last assignments to memory."""
    where = definition.body[-1]
    parts = value if isinstance(value, tuple) else (value,)
    numbers = [part for part in parts if isinstance(part, Expression)]
    wanted = ("the update", *interface.slots)
    packed = isinstance(value, tuple) == (len(wanted) > 1)
    if not packed or not len(parts) == len(numbers) == len(wanted):
        raise refuse(
            where,
            f"{len(parts)} values are returned; return {', '.join(wanted)}: "
            f"{len(wanted)}, like the parameters",
            "return_error",
        )
    result, *slots = numbers
    if not body.type_of(result).elementwise:
        raise refuse(
            where,
            "the result is one number; return an array like the parameters",
            "shape_error",
        )
    return body.finish(result, dict(zip(interface.slots, slots, strict=True)))
