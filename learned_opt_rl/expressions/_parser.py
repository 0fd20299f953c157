"""From text to a `Function`: statements line by line, expressions by precedence."""

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._function import Function
from learned_opt_rl.expressions._nodes import (
    BINDING,
    COMPARISONS,
    UNARY_BINDING,
    Assign,
    Binary,
    Call,
    Constant,
    Expression,
    Memory,
    Name,
    Number,
    Position,
    Unary,
    error,
)
from learned_opt_rl.expressions._tokens import Token, tokenize
from learned_opt_rl.expressions._vocabulary import (
    FUNCTIONS,
    INPUTS,
    MAX_ARGUMENTS,
    MAX_DEPTH,
    RESERVED,
    nearest,
)

# Printed text nests at most twice per level of the tree: a parenthesis and a sign.
_MAX_NESTING = 2 * MAX_DEPTH + 2


def parse(text: str) -> Function:
    r"""Read a function from its text.

    The first statement names the kind; then come the declarations, the assignments
    and one ``return``, each on its own line (a line goes on inside parentheses, and
    ``#`` begins a comment). The package's docstring describes the language.

    Args:
        text: At most 16384 characters.

    Returns:
        The checked function. Comments are not part of it.

    Raises:
        ExpressionError: The text is no valid function. The message gives line and
            column, what was found and the fix.
        TypeError: ``text`` is not a string.

    Example:
        >>> momentum = parse('''
        ... optimizer
        ... inputs g, lr
        ... memory m_0_9 = momentum(0.9)
        ... return lr * m_0_9
        ... ''')
        >>> momentum.kind, momentum.inputs
        ('optimizer', ('g', 'lr'))
        >>> parse("drift\ninputs r\nreturn q - 1")
        Traceback (most recent call last):
            ...
        learned_opt_rl.errors.ExpressionError: line 3, column 8: unknown name 'q'
        (known here: A, log_r, r); assign it above, or declare it as memory or constant
    """
    if not isinstance(text, str):
        raise TypeError(f"text is {type(text).__name__}; give a string")
    return _Parser(tokenize(text)).function()


def parse_expression(text: str) -> Expression:
    """Read one unchecked expression."""
    parser = _Parser(tokenize(text))
    parser.skip_blank_lines()
    expression = parser.expression(0)
    parser.end_of_statement()
    parser.skip_blank_lines()
    if parser.token.kind != "end":
        raise parser.wrong("the end of the expression")
    return expression


class _Parser:
    """A cursor over tokens with one method per part of the grammar."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.index = 0
        self.nesting = 0

    @property
    def token(self) -> Token:
        """The token under the cursor."""
        return self.tokens[self.index]

    def take(self) -> Token:
        """Return the token under the cursor and step past it."""
        token = self.token
        self.index += token.kind != "end"
        return token

    def accept(self, text: str) -> bool:
        """Step past the token if it reads ``text``."""
        found = self.token.kind in ("name", "symbol") and self.token.text == text
        self.index += found
        return found

    def expect(self, text: str, why: str) -> None:
        """Step past ``text`` or raise."""
        if not self.accept(text):
            raise self.wrong(f"{text!r} {why}")

    def wrong(self, expected: str) -> ExpressionError:
        """The error for a token that does not fit."""
        return error(f"found {self.token}; expected {expected}", self.token.at)

    def skip_blank_lines(self) -> None:
        """Step past empty lines."""
        while self.token.kind == "newline":
            self.take()

    def end_of_statement(self) -> None:
        """Step past the end of a line or raise."""
        if self.token.kind != "newline":
            raise self.wrong("an operator or the end of the line")
        self.skip_blank_lines()

    # ---------------------------------------------------------------- statements

    def function(self) -> Function:
        """The whole text."""
        self.skip_blank_lines()
        kind = self.kind()
        inputs: tuple[Name, ...] | None = None
        memory: list[Memory] = []
        constants: list[Constant] = []
        body: list[Assign] = []
        while True:
            start = self.token
            if self.accept("return"):
                result = self.expression(0)
                self.end_of_statement()
                break
            if start.kind == "end":
                raise error("the return is missing; end with: return ...", start.at)
            declaration = start.text in ("inputs", "memory", "constant")
            if declaration and body:
                raise error(
                    f"{start.text} comes after an assignment; declare it above line "
                    f"{body[0].at[0]}",
                    start.at,
                    "structure_error",
                )
            if self.accept("inputs"):
                if inputs is not None:
                    raise error(
                        "inputs is written twice; write one list: inputs a, b",
                        start.at,
                        "structure_error",
                    )
                inputs = self.inputs()
            elif self.accept("memory"):
                memory.append(self.memory())
            elif self.accept("constant"):
                constants.append(self.constant())
            else:
                body.append(self.assignment())
            self.end_of_statement()
        if self.token.kind != "end":
            raise error(
                "a statement after return has no effect; remove it",
                self.token.at,
                "structure_error",
            )
        return Function(
            kind=kind,
            inputs=tuple(name.name for name in inputs or ()),
            memory=tuple(memory),
            constants=tuple(constants),
            body=tuple(body),
            result=result,
            input_positions=tuple(name.at for name in inputs or ()),
        )

    def kind(self) -> str:
        """The first line."""
        token = self.take()
        if token.kind == "end":
            raise error("the text is empty; begin with optimizer or drift", token.at)
        if token.kind != "name" or token.text not in INPUTS:
            raise error(
                f"the first line is {token}; write optimizer or drift", token.at
            )
        self.end_of_statement()
        return token.text

    def inputs(self) -> tuple[Name, ...]:
        """What follows ``inputs``."""
        names = [self.name("an input")]
        while self.accept(","):
            names.append(self.name("an input"))
        return tuple(names)

    def memory(self) -> Memory:
        """What follows ``memory``."""
        name = self.name("a memory slot")
        self.expect("=", "and where the slot starts, as in: memory v = 0")
        if not self.accept("momentum"):
            return Memory(name.name, self.signed_number(), at=name.at)
        self.expect("(", "and a decay, as in: momentum(0.9)")
        decay = self.signed_number()
        self.expect(")", "after the decay")
        return Memory(name.name, decay=decay, at=name.at)

    def constant(self) -> Constant:
        """What follows ``constant``."""
        name = self.name("a constant")
        self.expect("=", "and a number, as in: constant eps = 0.2")
        return Constant(name.name, self.signed_number(), name.at)

    def assignment(self) -> Assign:
        """``name = expression``."""
        if self.token.kind != "name":
            raise self.wrong("a statement: name = ..., or return ...")
        following = self.tokens[self.index + 1]
        if following.text != "=":
            first = self.token.text
            raise error(
                f"a statement begins with {first!r} and {following}; write name = ... "
                f"or return ... ({nearest(first, _STATEMENT_WORDS)})",
                self.token.at,
            )
        name = self.name("a local")
        self.take()
        return Assign(name.name, self.expression(0), name.at)

    def name(self, what: str) -> Name:
        """A name of one's own."""
        token = self.token
        if token.kind != "name":
            raise self.wrong(f"the name of {what}")
        if token.text in RESERVED:
            raise error(
                f"{token.text!r} is a word of the language; choose another name for "
                f"{what}, such as {token.text}_1",
                token.at,
                "name_error",
            )
        self.take()
        return Name(token.text, token.at)

    def signed_number(self) -> float:
        """A number with an optional minus sign."""
        minus = self.accept("-")
        token = self.take()
        if token.kind != "number":
            raise error(f"found {token}; expected a number", token.at)
        # Adding zero turns -0.0 into 0.0.
        return (-1.0 if minus else 1.0) * float(token.text) + 0.0

    # --------------------------------------------------------------- expressions

    def expression(self, minimum: int) -> Expression:
        """An expression of operators that bind more tightly than ``minimum``."""
        if self.nesting == _MAX_NESTING:
            raise error(
                "parentheses, signs and calls are nested too deeply; give parts a "
                "name on lines of their own",
                self.token.at,
                "size_error",
            )
        self.nesting += 1
        left = self.operand()
        while (binding := self.binding()) > minimum:
            operator = self.take()
            right = self.expression(binding - (operator.text == "^"))
            left = Binary(operator.text, left, right, operator.at)
            if operator.text in COMPARISONS and self.binding() == binding:
                raise error(
                    f"comparisons do not chain; write a {operator.text} b and b "
                    f"{self.token.text} c",
                    self.token.at,
                )
        self.nesting -= 1
        return left

    def binding(self) -> int:
        """How tightly the token binds as a binary operator, 0 if it is none."""
        if self.token.kind not in ("name", "symbol"):
            return 0
        return BINDING.get(self.token.text, 0)

    def operand(self) -> Expression:
        """A number, a name, a call, a sign with its operand, or parentheses."""
        token = self.token
        if token.kind == "number":
            self.take()
            return Number(float(token.text), token.at)
        if token.text in UNARY_BINDING:
            self.take()
            operand = self.expression(UNARY_BINDING[token.text])
            return Unary(token.text, operand, token.at)
        if self.accept("("):
            inner = self.expression(0)
            self.close(token.at)
            return inner
        if token.kind != "name" or token.text in BINDING:
            raise self.wrong("a number, a name, a call or (")
        self.take()
        if self.token.text == "(":
            return self.call(token)
        if token.text in FUNCTIONS:
            raise error(
                f"{token.text!r} is a function; write {token.text}(...)", token.at
            )
        return Name(token.text, token.at)

    def call(self, name: Token) -> Call:
        """``name(argument, ...)`` from its opening parenthesis on."""
        opening = self.take().at
        arguments = [self.expression(0)]
        while self.accept(","):
            arguments.append(self.expression(0))
        self.close(opening)
        if len(arguments) > MAX_ARGUMENTS:
            raise error(
                f"{name.text!r} has {len(arguments)} arguments; no function takes more "
                f"than {MAX_ARGUMENTS}",
                name.at,
                "size_error",
            )
        return Call(name.text, tuple(arguments), name.at)

    def close(self, opening: Position) -> None:
        """Step past a closing parenthesis or raise."""
        line, column = opening
        self.expect(")", f"to close '(' of line {line}, column {column}")


_STATEMENT_WORDS = ("inputs", "memory", "constant", "return")
