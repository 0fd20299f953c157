"""From text to a `Function`: declarations, assignments and one return."""

import ast

from learned_opt_rl.expressions._function import Function
from learned_opt_rl.expressions._nodes import (
    Assign,
    Constant,
    Expression,
    Memory,
    Name,
    error,
)
from learned_opt_rl.expressions._syntax import SourceReader
from learned_opt_rl.expressions._vocabulary import DECLARATIONS, INPUTS, RESERVED

_FORMS = {
    "inputs": "inputs a, b",
    "memory": "memory v = 0, or memory v = momentum(0.9)",
    "constant": "constant eps = 0.2",
}


def parse(text: str) -> Function:
    r"""Read a function from its text.

    The first statement names the kind; then come the declarations, the assignments
    and one ``return``, each on its own line (a line continues inside parentheses, and
    ``#`` begins a comment). The package's docstring describes the language.

    Args:
        text: At most 16384 characters.

    Returns:
        The checked function. Comments are not part of it.

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
        (known here: A, log_r, r); assign it above, or declare it as memory or constant
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
            result = _returned(reader, statement)
            break
        start = (statement.lineno, 1)
        if word and body:
            problem = f"{word} comes after an assignment; declare it above line "
            raise error(f"{problem}{body[0].at[0]}", start, "structure_error")
        if word == "inputs" and inputs:
            problem = f"inputs is written twice; write one list: {_FORMS[word]}"
            raise error(problem, start, "structure_error")
        match word:
            case "inputs":
                inputs = _inputs(reader, statement)
            case "memory":
                memory.append(_memory(reader, statement))
            case "constant":
                name, value = _target(reader, word, statement)
                number = _signed_number(reader, value)
                constants.append(Constant(name.name, number, name.at))
            case _:
                name, value = _target(reader, word, statement)
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


def _returned(reader: SourceReader, statement: ast.Return) -> Expression:
    if statement.value is None:
        problem = "return has no value; write an expression after it"
        raise error(problem, reader.at(statement))
    return reader.expression(statement.value)


def _inputs(reader: SourceReader, statement: ast.stmt) -> list[Name]:
    match statement:
        case ast.Expr(value=ast.Tuple(elts=names)):
            return [_name(reader, name, "an input") for name in names]
        case ast.Expr(value=name):
            return [_name(reader, name, "an input")]
    problem = f"this is not a list of inputs; write {_FORMS['inputs']}"
    raise error(problem, reader.at(statement))


def _memory(reader: SourceReader, statement: ast.stmt) -> Memory:
    name, value = _target(reader, "memory", statement)
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
