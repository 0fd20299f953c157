"""The values of an import: typed expressions, and the assignments that name them."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeGuard

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._check import infer
from learned_opt_rl.expressions._functions import FUNCTIONS, RESERVED
from learned_opt_rl.expressions._language import (
    COMPARISONS,
    ELEMENTWISE,
    INPUTS,
    LOGICAL,
    SCALAR,
    Assign,
    Binary,
    Call,
    Expression,
    Kind,
    Limits,
    Name,
    Number,
    Position,
    Type,
    Unary,
    children,
    error,
    is_name,
    names_in,
    walk,
)
from learned_opt_rl.expressions._text import parse_expression
from learned_opt_rl.expressions.convert._kinds import (
    Builder,
    Key,
    Shape,
    Stack,
    Value,
    refuse,
)
from learned_opt_rl.expressions.convert._static import Known, Whole

# The largest whole exponent that the evaluator multiplies out.
_MAX_EXPONENT = 16


# Given conditions only, jax returns a condition for the first two groups and raises for
# the third. All other functions read conditions as 1 and 0.
_SAME_OF_CONDITIONS = ("abs", "floor", "ceil", "stop_gradient", "nan_to_num")
_LOGIC_OF_CONDITIONS = {"max": "or", "min": "and", "+": "or", "*": "and"}
_NOT_OF_CONDITIONS = ("-", "sign", "round", "sigmoid", "silu", "rsqrt")
# jax computes these in integers where all arguments are integers.
_WHOLE = ("square", "relu", "clip", "max", "min", "sign", "where", "sum", "size", "mod")
_WHOLE += (*_SAME_OF_CONDITIONS, "floor_divide", "max_all", "min_all")
_DIFFERS_IN_INTEGERS = ("**", "mod", "floor_divide")
_DIVISIONS = ("/", "mod", "floor_divide")


def arity(parameters: str) -> range:
    """Return the numbers of arguments that fit; ``"x y?"`` takes one or two."""
    names = parameters.split()
    return range(sum(not name.endswith("?") for name in names), len(names) + 1)


class Values(Known):
    """The types of converted values, and the assignments that give them names.

    ``arithmetic`` decides how conditions count. In ``"jax"`` a sum of conditions is a
    condition, and a number is true where it is not 0. In ``"julia"`` conditions are 1
    and 0, and a number is true where it is positive.
    """

    def __init__(
        self,
        kind: Kind,
        read: Sequence[str],
        slots: Sequence[str],
        arithmetic: Literal["jax", "julia"],
    ) -> None:
        super().__init__()
        self.slots = frozenset(slots)
        self.assignments: list[Assign] = []
        self._types: dict[str, Type] = dict.fromkeys(read, ELEMENTWISE) | INPUTS[kind]
        self._types |= {"eps": SCALAR} if kind == "drift" else {}
        self._drift = kind == "drift"
        self._jax = arithmetic == "jax"
        self._whole: set[str] = set()  # names of values that jax computes in integers
        self._found: dict[int, tuple[Expression, Type]] = {}
        self._taken = {*self._types, *RESERVED}
        self._counts: Counter[str] = Counter()
        self._nodes = 0
        self.drawn: Key | None = None  # the key of all draws of noise

    # ----------------------------------------------------------------------- types

    def type_of(self, value: Expression) -> Type:
        """Return the type of an expression."""
        return infer(value, self._types, drift=self._drift, found=self._found)

    def is_condition(self, value: Value) -> TypeGuard[Expression]:
        """Return whether a value is a condition."""
        return isinstance(value, Expression) and self.type_of(value).boolean

    def constant(self, name: str, number: float) -> Name | None:
        """Declare a number that callers may replace; None if the name is taken."""
        if name in self._taken or not is_name(name):
            return None
        self._taken.add(name)
        self._types[name] = SCALAR
        self._whole |= {name} if isinstance(number, int) else set()
        self.declare(name, number)
        return Name(name)

    def is_whole(self, value: Expression) -> bool:
        """Return whether jax computes a value in integers."""
        match value:
            case Number(value=written):
                return isinstance(written, Whole)
            case Name(name=name):
                return name in self._whole
            case Binary(operator="/"):
                return False
            case Binary(operator=operator) if operator in COMPARISONS:
                return True
            case Call(function=name) if name not in _WHOLE:
                return FUNCTIONS[name].rule == "test"
        return all(self.is_whole(child) for child in children(value))

    def number(self, value: Value, at: Position) -> Expression:
        """Return a value as a number; a condition becomes 1 or 0, as in Python."""
        if self.is_condition(value):
            return Call("where", (value, Number(Whole(1)), Number(Whole(0))), value.at)
        if isinstance(value, Expression):
            return value
        if isinstance(value, Shape):
            problem = "the length of an axis is not known; write w.size for the number "
            raise refuse(at, f"{problem}of parameters", "shape_error")
        raise refuse(at, "this is not a number; write one number here")

    def floating(self, value: Value, at: Position) -> Expression:
        """Return a value as a number that is not an integer of jax."""
        if isinstance(value, Number):
            return Number(float(value.value), at)
        if self.is_condition(value):
            return Call("where", (value, Number(1.0), Number(0.0)), at)
        return self.number(value, at)

    def condition(self, value: Value, at: Position) -> Expression:
        """Return a condition, and raise for any other value."""
        if self.is_condition(value):
            return value
        raise refuse(at, "this is not a condition; write a comparison here")

    def truth(self, value: Value, at: Position) -> Expression:
        """Return the truth of a value as a condition."""
        if isinstance(value, Expression) and not self.is_condition(value):
            return Binary("!=" if self._jax else ">", value, Number(0.0), at)
        return self.condition(value, at)

    # ------------------------------------------------------------------ operations

    def apply(
        self,
        symbol: str,
        operands: Sequence[Value],
        at: Position,
        *,
        python: bool = True,
    ) -> Expression:
        """Apply an operator to its one or two operands.

        With ``python``, Python computes the result where all operands are its numbers.
        """
        if symbol in FUNCTIONS:  # mod and floor_divide, which Python writes % and //
            return self.call(symbol, operands, at, python=python)
        if len(operands) == 1:
            return self._unary(symbol, operands[0], at)
        if symbol in LOGICAL:
            first, second = (self.condition(side, at) for side in operands)
            return Binary(symbol, first, second, at)
        if symbol in ("+", "-", "*") and all(map(self.is_condition, operands)):
            combined = self._combined(symbol, operands, at) if self._jax else None
            if combined is not None:
                return combined
        first, second = (self.number(side, at) for side in operands)
        self._check_integers(symbol, (first, second), at, python)
        whole = Binary(symbol, first, second, at)
        return _check_power(whole) if self._jax else whole

    def _unary(self, symbol: str, operand: Value, at: Position) -> Expression:
        if symbol != "not":
            if self._jax and self.is_condition(operand):
                raise self._no_conditions("-", at)
            return Unary(symbol, self.number(operand, at), at)
        if self._jax and self.is_static(operand):
            problem = "~ of one Python condition is a number; write the opposite "
            raise refuse(at, f"{problem}comparison")
        return Unary(symbol, self.condition(operand, at), at)

    def call(
        self,
        name: str,
        arguments: Sequence[Value],
        at: Position,
        *,
        python: bool = False,
    ) -> Expression:
        """Apply a function of the language."""
        if name == "where" and len(arguments) == 3:
            return self.choose(arguments[0], arguments[1], arguments[2], at)
        if self._jax and arguments and all(map(self.is_condition, arguments)):
            combined = self._combined(name, arguments, at)
            if combined is not None:
                return combined
        numbers = [self.number(argument, at) for argument in arguments]
        self._check_integers(name, numbers, at, python)
        return Call(name, tuple(numbers), at)

    def choose(
        self, condition: Value, left: Value, right: Value, at: Position
    ) -> Expression:
        """Build ``where``; between conditions, it is a condition."""
        decides = self.truth(condition, at)
        if not (self._jax and self.is_condition(left) and self.is_condition(right)):
            sides = [self.number(side, at) for side in (left, right)]
            return Call("where", (decides, *sides), at)
        decides = self.assigned("condition", decides)
        yes = Binary("and", decides, left, at)
        no = Binary("and", Unary("not", decides, at), right, at)
        return Binary("or", yes, no, at)

    def _combined(
        self, name: str, conditions: Sequence[Value], at: Position
    ) -> Expression | None:
        """Combine conditions as jax does, or return None where they count as 1, 0."""
        if name in _NOT_OF_CONDITIONS or all(map(self.is_static, conditions)):
            raise self._no_conditions(name, at)
        whole, *others = [self.condition(condition, at) for condition in conditions]
        if name in _SAME_OF_CONDITIONS:
            return whole
        if name not in _LOGIC_OF_CONDITIONS:
            return None
        for other in others:
            whole = Binary(_LOGIC_OF_CONDITIONS[name], whole, other, at)
        return whole

    def _no_conditions(self, name: str, at: Position) -> ExpressionError:
        problem = f"{name} of conditions differs from {name} of numbers; write "
        return refuse(at, f"{problem}jnp.where(condition, 1.0, 0.0)", "type_error")

    def _check_integers(
        self, name: str, numbers: Sequence[Expression], at: Position, python: bool
    ) -> None:
        """Raise where jax computes another value in integers, or Python raises."""
        if not self._jax or len(numbers) != 2:
            return
        left, right = numbers
        if python and self.is_static(left) and self.is_static(right):
            if name in _DIVISIONS and right == Number(0.0):
                raise refuse(at, "Python does not divide by 0; write another number")
            return
        positive = isinstance(right, Number) and right.value >= (name != "**")
        if name not in _DIFFERS_IN_INTEGERS or positive:
            return
        if all(map(self.is_whole, numbers)):
            problem = "jax computes this in integers, with another result; write "
            raise refuse(at, f"{problem}numbers with a point, as in 2.0", "type_error")

    # ------------------------------------------------------------------- templates

    def build(
        self,
        parameters: str,
        builder: str | Builder,
        arguments: Mapping[str, Value],
        at: Position,
    ) -> Value:
        """Convert a call with converted arguments."""
        if not isinstance(builder, str):
            return builder(self, arguments, at)
        if any(isinstance(value, Stack) for value in arguments.values()):
            return self.each(
                lambda one: self.build(parameters, builder, one, at), arguments, at
            )
        optional = len(arguments) - arity(parameters).start
        formula = _template(builder.split(" | ")[optional])
        counts = Counter(n.name for n, _ in walk(formula) if isinstance(n, Name))
        given: dict[str, Value] = {}
        for letter, (name, value) in zip("abcd", arguments.items(), strict=False):
            # What the formula reads twice is computed once.
            given[letter] = self.keep(value, name) if counts[letter] > 1 else value
        return self._fill(formula, given, at)

    def each(
        self,
        build: Callable[[Mapping[str, Value]], Value],
        arguments: Mapping[str, Value],
        at: Position,
    ) -> Stack:
        """Apply a function to the parts of stacks, whose shapes are equal."""
        stacks = [value for value in arguments.values() if isinstance(value, Stack)]
        rest = [v for v in arguments.values() if isinstance(v, Expression)]
        parts = [part for stack in stacks for part in stack]
        spread = {
            isinstance(part, Expression) and self.type_of(part).elementwise
            for part in parts
        }
        number = not any(self.type_of(value).elementwise for value in rest)
        fits = spread == {True} or (spread == {False} and number)
        if not fits or len({len(stack) for stack in stacks}) > 1:
            problem = "these shapes differ; write the parts out, as in "
            raise refuse(at, f"{problem}sum(c * m for c, m in zip(cs, ms))")
        rows = (
            {n: v[i] if isinstance(v, Stack) else v for n, v in arguments.items()}
            for i in range(len(stacks[0]))
        )
        return Stack(self.keep(build(row)) for row in rows)

    def _fill(
        self, node: Expression, given: Mapping[str, Value], at: Position
    ) -> Value:
        """Build a template with values in the place of its names."""
        match node:
            case Name():
                return given[node.name]
            case Number():
                return Number(node.value, at)
        operands = [self._fill(child, given, at) for child in children(node)]
        match node:
            case Call():
                return self.call(node.function, operands, at)
            case Unary() if node.operator == "not":
                return Unary("not", self.truth(operands[0], at), at)
            case Binary() if node.operator in LOGICAL:
                operands = [self.truth(operand, at) for operand in operands]
        return self.apply(node.operator, operands, at, python=False)

    # ----------------------------------------------------------------- assignments

    def total(self, values: Value, at: Position) -> Expression:
        """Return the sum of a tuple of numbers."""
        if not isinstance(values, tuple) or not values:
            raise refuse(at, "this is not a tuple of numbers; write one here")
        if len(values) > Limits.DEPTH:
            problem = f"{len(values)} values are too many; write at most {Limits.DEPTH}"
            raise refuse(at, problem, "size_error")
        total, *others = [self.number(value, at) for value in values]
        for other in others:
            total = Binary("+", total, other, at)
        return total

    def keep(self, value: Value, hint: str = "part") -> Value:
        """Return a value that no later assignment changes."""
        if not isinstance(value, Expression) or isinstance(value, Number):
            return value
        return self.assigned(hint, value)

    def assigned(self, hint: str, value: Expression) -> Name:
        """Assign a value to a new name like ``hint``, unless a name stands for it."""
        if isinstance(value, Name) and value.name not in self.slots:
            return value
        target = self._fresh(hint)
        self.emit(target, value)
        return Name(target, value.at)

    def finish(self, result: Expression, slots: Mapping[str, Expression]) -> Expression:
        """Emit the last assignments to memory and return the result, still valid."""
        pending = {
            name: self.number(value, value.at)
            for name, value in slots.items()
            if value != Name(name)
        }
        result = self._outlive(result, set(pending), "update")
        for name, value in pending.items():
            pending[name] = self._outlive(value, set(pending) - {name}, f"{name}_new")
        for name, value in pending.items():
            self.emit(name, value)
        return result

    def _outlive(self, value: Expression, changed: set[str], hint: str) -> Expression:
        return self.assigned(hint, value) if names_in(value) & changed else value

    def emit(self, target: str, value: Expression) -> None:
        self._nodes += sum(1 for _ in walk(value))
        if self._nodes > Limits.NODES:
            problem = (
                f"the function has more than {Limits.NODES} operations and operands"
            )
            raise error(f"{problem}; write a shorter one", value.at, "size_error")
        found = self.type_of(value)
        self._types[target] = ELEMENTWISE if target in self.slots else found
        whole = self.is_whole(value) and target not in self.slots
        (self._whole.add if whole else self._whole.discard)(target)
        self.follow(target, None if target in self.slots else value)
        self.assignments.append(Assign(target, value, value.at))

    def _fresh(self, hint: str) -> str:
        base = hint.strip("_")[: Limits.NAME - 8]
        base = base if is_name(base) else "part"
        name = base
        while name in self._taken:
            self._counts[base] += 1
            name = f"{base}_{self._counts[base] + 1}"
        self._taken.add(name)
        return name


_template = functools.cache(parse_expression)


def _check_power(value: Binary) -> Binary:
    """Return a value unless it is a power with a large written exponent."""
    if value.operator == "**":
        exponent = value.right
        exponent = exponent.operand if isinstance(exponent, Unary) else exponent
        if isinstance(exponent, Number) and exponent.value > _MAX_EXPONENT:
            problem = f"an exponent is above {_MAX_EXPONENT}; write a smaller one"
            raise refuse(value.at, problem)
    return value
