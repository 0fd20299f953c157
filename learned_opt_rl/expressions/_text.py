"""From text to trees: Python's parser, guarded and reduced to our operators.

Every text, stored, proposed or printed by a search, passes through `python_tree`, which
bounds the text before ``ast.parse`` sees it and the tree before anything recurses into
it. Nothing is compiled or executed.
"""

import ast
import re
import warnings
from collections.abc import Mapping, Sequence

from learned_opt_rl.checks import suggest
from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._function import Function
from learned_opt_rl.expressions._functions import FUNCTIONS, RESERVED
from learned_opt_rl.expressions._language import (
    DECLARATIONS,
    INPUTS,
    SYMBOLS,
    Assign,
    Binary,
    Call,
    Constant,
    Expression,
    Limits,
    Memory,
    Name,
    Number,
    Position,
    Unary,
    error,
    shorten,
)

NOT_RUN = "<syntax only>"
"""The file name that Python's audit events report for a text that is only parsed."""

_LONG_NUMBER = re.compile(rf"[0-9][0-9_]{{{Limits.DIGITS}}}")
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}
# Around an expression of the deepest kind there are a module, a function or a
# statement and, at the bottom, an operator or the context of a name.
_TREE_DEPTH = Limits.DEPTH + 4


def place(node: ast.AST) -> Position:
    """Return where a node begins, both counted from 1."""
    return getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1


def python_tree(source: str) -> ast.Module:
    """Parse Python syntax within the limits; execute nothing."""
    check_length(source)
    _check_brackets(source)
    digits = _LONG_NUMBER.search(source)
    if digits:
        line = source.count("\n", 0, digits.start()) + 1
        column = digits.start() - source.rfind("\n", 0, digits.start())
        problem = f"a number has more than {Limits.DIGITS} digits; write as in 1.5e-8"
        raise error(problem, (line, column), "size_error")
    try:
        with warnings.catch_warnings():
            # Python warns of odd literals, which are refused or harmless here.
            warnings.simplefilter("ignore")
            module = ast.parse(source, NOT_RUN)
    except SyntaxError as problem:
        at = (problem.lineno or 1, max(problem.offset or 1, 1))
        raise error(f"this is not valid Python: {problem.msg}", at) from None
    except ValueError as problem:
        # Null bytes, lone surrogates, integers of thousands of digits.
        raise error(f"this is not valid Python: {problem}", (1, 1)) from None
    except (RecursionError, MemoryError):
        raise _too_deep((1, 1)) from None
    _check_depth(module)
    return module


def check_length(source: str) -> None:
    """Raise `ExpressionError` for a text of too many characters."""
    if len(source) > Limits.CHARACTERS:
        problem = f"the text has {len(source)} characters; write at most "
        raise error(f"{problem}{Limits.CHARACTERS}", (1, 1), "size_error")


def _check_brackets(source: str) -> None:
    """Bound the depth of brackets, those in strings and comments included."""
    depth = 0
    for line, characters in enumerate(source.split("\n"), 1):
        for column, character in enumerate(characters, 1):
            depth = max(depth + _BRACKETS.get(character, 0), 0)
            if depth > Limits.DEPTH:
                raise _too_deep((line, column))


def _check_depth(module: ast.Module) -> None:
    pending: list[tuple[ast.AST, int]] = [(module, 0)]
    while pending:
        node, depth = pending.pop()
        if depth > _TREE_DEPTH:
            raise _too_deep(place(node))
        pending.extend((child, depth + 1) for child in ast.iter_child_nodes(node))


def _too_deep(at: Position) -> ExpressionError:
    problem = (
        f"this is nested more than {Limits.DEPTH} levels deep; write less, or give "
    )
    return error(f"{problem}parts a name", at, "size_error")


# ------------------------------------------------------------- the stored language

_DECLARATION = re.compile(rf"({'|'.join(DECLARATIONS)})[ \t]+(?=[^ \t=])")
_UNEXPECTED = re.compile(r"[^A-Za-z0-9_ \t+\-*/(),=<>!.]")
_CHARACTERS = {
    "^": "write ** for a power",
    "&": "write and",
    "|": "write or, or abs(x) for a magnitude",
    "~": "write not",
    "%": "write mod(a, b)",
    "[": "write ( and ); the language has no indexing",
    ";": "put each statement on its own line",
    **dict.fromkeys("'\"", "remove it; the language has no strings"),
}
INSTEAD: dict[type[ast.AST], str] = {
    ast.Call: "a call has a name and no keywords; write f(a, b)",
    ast.Compare: "comparisons do not chain; write a < b and b < c",
    ast.FloorDiv: "// is not an operator here; write floor(a / b)",
    ast.IfExp: "if and else are not allowed here; write where(condition, a, b)",
    ast.Tuple: "several values are not allowed here; write one expression",
    ast.UAdd: "a plus sign before a value has no effect; remove it",
}
"""By class of syntax that the stored language does not have, what to write instead."""


class Reader:
    """Turns Python syntax into nodes, operator by operator."""

    symbols: Mapping[type[ast.AST], str] = SYMBOLS
    instead: Mapping[type[ast.AST], str] = INSTEAD  # of other syntax

    def at(self, node: ast.AST) -> Position:
        """Return where a node begins in the text as given."""
        return place(node)

    def expression(self, node: ast.expr) -> Expression:
        """Read an expression."""
        match node:
            case ast.Constant():
                return self.number(node)
            case ast.Name(id=name) if len(name) > Limits.NAME:
                problem = (
                    f"a name has {len(name)} characters; write at most {Limits.NAME}"
                )
                raise error(problem, self.at(node), "size_error")
            case ast.Name(id=name) if name in FUNCTIONS:
                raise error(f"{name!r} is a function; write {name}(...)", self.at(node))
            case ast.Name(id=name):
                return Name(name, self.at(node))
            case ast.BoolOp(values=[first, *others]):
                whole, symbol = self.expression(first), self._symbol(node.op, node)
                for other in others:
                    right = self.expression(other)
                    whole = Binary(symbol, whole, right, self.at(node))
                return whole
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                self.check_arguments(name, node)
                read = tuple(self.expression(argument) for argument in arguments)
                return Call(name, read, self.at(node))
        return self.operation(node)

    def check_arguments(self, name: str, node: ast.Call) -> None:
        """Raise above the largest number of arguments."""
        if len(node.args) > Limits.ARGUMENTS:
            problem = f"{name[: Limits.NAME]}(...) has {len(node.args)} arguments; "
            problem += f"no function takes more than {Limits.ARGUMENTS}"
            raise error(problem, self.at(node), "size_error")

    def operation(self, node: ast.expr) -> Expression:
        """Read an operator with its operands."""
        match node:
            case ast.UnaryOp(op=operator):
                operands = [node.operand]
            case ast.BinOp(op=operator):
                operands = [node.left, node.right]
            case ast.Compare(ops=[operator], left=left, comparators=[right]):
                operands = [left, right]
            case _:
                raise self.unknown(node, node)
        return self.apply(self._symbol(operator, node), operands, node)

    def apply(
        self, symbol: str, operands: Sequence[ast.expr], node: ast.expr
    ) -> Expression:
        """Read the one or two operands of an operator."""
        read = [self.expression(operand) for operand in operands]
        if len(read) == 1:
            return Unary(symbol, read[0], self.at(node))
        return Binary(symbol, read[0], read[1], self.at(node))

    def number(self, node: ast.Constant) -> Number:
        """Read a number of a magnitude within the limit."""
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            problem = f"{shorten(ascii(value))} is not a number; write numbers only"
            raise error(problem, self.at(node), "forbidden_syntax")
        if not abs(value) <= Limits.MAGNITUDE:
            problem = f"a number is above {Limits.MAGNITUDE:g}; write a smaller one"
            raise error(problem, self.at(node), "size_error")
        return Number(float(value), self.at(node))

    def _symbol(self, operator: ast.AST, node: ast.AST) -> str:
        if type(operator) not in self.symbols:
            raise self.unknown(operator, node)
        return self.symbols[type(operator)]

    def unknown(self, syntax: ast.AST, node: ast.AST) -> ExpressionError:
        """Build the error for syntax, at a node, that the language does not have."""
        problem = (
            f"Python's {type(syntax).__name__} is not part of the language; write "
        )
        problem = self.instead.get(type(syntax), f"{problem}operators and calls")
        return error(problem, self.at(node), "forbidden_syntax")


class SourceReader(Reader):
    """A text of the language, in which a declaration begins with its own word.

    ``statements`` are its statements, each after its declaring word or ``""``.
    """

    unexpected = _UNEXPECTED

    def __init__(self, text: str) -> None:
        check_length(text)
        # What is taken off the start of each line: indentation and the declaring word.
        self._taken: list[int] = []
        words, lines, depth = {}, [], 0
        for number, whole in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
            line = whole.partition("#")[0]
            unexpected = self.unexpected.search(line)
            if unexpected:
                character = unexpected.group()
                hint = _CHARACTERS.get(character, "remove it")
                problem = f"unexpected character {ascii(character)}; {hint}"
                raise error(problem, (number, unexpected.start() + 1))
            start = len(line) - len(line.lstrip())
            declaration = None if depth else _DECLARATION.match(line, start)
            if declaration:
                words[number] = declaration[1]
                start = declaration.end()
            depth = max(depth + line.count("(") - line.count(")"), 0)
            self._taken.append(start)
            lines.append(line[start:].rstrip())
        try:
            body = python_tree("\n".join(lines)).body
        except ExpressionError as problem:
            raise self._moved(problem, lines) from None
        self.statements = [(words.get(s.lineno, ""), s) for s in body]

    def at(self, node: ast.AST) -> Position:
        """Return where a node begins in the text as given."""
        line, column = place(node)
        return line, column + self._taken[line - 1]

    def _moved(self, problem: ExpressionError, lines: list[str]) -> ExpressionError:
        line = min(problem.line or 1, len(lines))
        column, message = problem.column or 1, problem.problem
        if problem.category == "syntax_error":
            found = lines[line - 1][column - 1 :].split()
            where = repr(found[0][: Limits.NAME]) if found else "the end of the line"
            message = message.partition(". ")[0] + f" at {where}; write name = ... or "
            message += "return ... on each line"
            first, words = lines[line - 1].partition(" ")[0], ("return", *DECLARATIONS)
            if first.isidentifier() and first not in words:
                message += f" ({suggest(first, words)})"
        return error(message, (line, column + self._taken[line - 1]), problem.category)


# ---------------------------------------------------------------- the whole text

_FORMS = {
    "inputs": "inputs a, b",
    "memory": "memory v = 0, or memory v = momentum(0.9)",
    "constant": "constant eps = 0.2",
}


def parse(text: str) -> Function:
    r"""Read a function from its text; the docstring of `expressions` describes it.

    Args:
        text: At most 16384 characters. Comments are not part of the function.

    Raises:
        ExpressionError: The text is not a valid function. The message gives line and
            column, the problem and the fix.
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
        (choose one of A, log_r, r); assign it above, or declare it as memory or
        constant
    """
    if not isinstance(text, str):
        raise TypeError(f"text is {type(text).__name__}; pass a string")
    reader = SourceReader(text)
    kind = _kind(reader)
    inputs: list[Name] = []
    memory: list[Memory] = []
    constants: list[Constant] = []
    body: list[Assign] = []
    statements = reader.statements
    for index, (word, statement) in enumerate(statements[1:], 2):
        if isinstance(statement, ast.Return):
            if index < len(statements):
                problem = "a statement after return has no effect; remove it"
                raise error(problem, reader.at(statements[index][1]), "structure_error")
            if statement.value is None:
                problem = "return has no value; write an expression after it"
                raise error(problem, reader.at(statement))
            result = reader.expression(statement.value)
            break
        start = (statement.lineno, 1)
        if word and body:
            problem = f"{word} comes after an assignment; declare it above line "
            raise error(f"{problem}{body[0].at[0]}", start, "structure_error")
        if word == "inputs" and inputs:
            problem = f"inputs is written twice; write one list: {_FORMS[word]}"
            raise error(problem, start, "structure_error")
        if word == "inputs":
            inputs = _inputs(reader, statement)
            continue
        name, value = _target(reader, word, statement)
        match word:
            case "memory":
                memory.append(_memory(reader, name, value))
            case "constant":
                number = _signed_number(reader, value)
                constants.append(Constant(name.name, number, name.at))
            case _:
                body.append(Assign(name.name, reader.expression(value), name.at))
    else:
        end = (statements[-1][1].end_lineno or 1) + 1
        raise error("the return is missing; end with: return ...", (end, 1))
    return Function(
        kind=kind,
        inputs=tuple(name.name for name in inputs),
        memory=tuple(memory),
        constants=tuple(constants),
        body=tuple(body),
        result=result,
        input_positions=tuple(name.at for name in inputs),
    )


def parse_expression(text: str) -> Expression:
    """Read one unchecked expression."""
    reader = SourceReader(text)
    match reader.statements:
        case [("", ast.Expr(value=value))]:
            return reader.expression(value)
    raise error("this is not one expression; write one, as in: a * b + c", (1, 1))


def _kind(reader: SourceReader) -> str:
    match reader.statements:
        case []:
            problem = "the text is empty"
        case [("", ast.Expr(value=ast.Name(id=kind))), *_] if kind in INPUTS:
            return kind
        case _:
            problem = "the first line does not name the kind"
    raise error(f"{problem}; begin with optimizer or drift", (1, 1))


def _inputs(reader: SourceReader, statement: ast.stmt) -> list[Name]:
    if not isinstance(statement, ast.Expr):
        problem = f"this is not a list of inputs; write {_FORMS['inputs']}"
        raise error(problem, reader.at(statement))
    listed = statement.value
    names = listed.elts if isinstance(listed, ast.Tuple) else [listed]
    return [_name(reader, name, "an input") for name in names]


def _memory(reader: SourceReader, name: Name, value: ast.expr) -> Memory:
    match value:
        case ast.Call(func=ast.Name(id="momentum"), args=[decay], keywords=[]):
            decay = _signed_number(reader, decay)
            return Memory(name.name, decay=decay, at=name.at)
    return Memory(name.name, _signed_number(reader, value), at=name.at)


def _target(
    reader: SourceReader, word: str, statement: ast.stmt
) -> tuple[Name, ast.expr]:
    """Split ``name = value``, a declaration or the assignment of a local."""
    match statement:
        case ast.Assign(targets=[target], value=value):
            what = {"memory": "a memory slot", "constant": "a constant"}
            return _name(reader, target, what.get(word, "a local")), value
    form = _FORMS.get(word, "name = ... or return ...")
    problem = f"this is not a statement of the language; write {form}"
    raise error(problem, reader.at(statement))


def _name(reader: SourceReader, node: ast.expr, what: str) -> Name:
    """Read the name of something that the text declares or assigns."""
    at = reader.at(node)
    if not isinstance(node, ast.Name):
        raise error(f"this cannot name {what}; write a name", at)
    name = node.id
    if name in RESERVED:
        fix = f"choose another name for {what}, such as {name}_1"
        if name in DECLARATIONS:
            fix = f"write {_FORMS[name]}"
        raise error(f"{name!r} is a word of the language; {fix}", at, "name_error")
    return Name(name, at)


def _signed_number(reader: SourceReader, node: ast.expr) -> float:
    match node:
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as value):
            # Adding zero turns -0.0 into 0.0.
            return -reader.number(value).value + 0.0
        case ast.Constant():
            return reader.number(node).value
    raise error("this is not a number; write one, such as 0.9", reader.at(node))
