"""From characters to tokens, in one pass."""

import re
from typing import NamedTuple

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._nodes import Position, error
from learned_opt_rl.expressions._vocabulary import (
    MAX_CHARACTERS,
    MAX_DIGITS,
    MAX_NAME,
)


class Token(NamedTuple):
    """A piece of text.

    Attributes:
        kind: ``"name"``, ``"number"``, ``"symbol"``, ``"newline"`` or ``"end"``.
        text: The characters.
        at: Where they begin.
    """

    kind: str
    text: str
    at: Position

    def __str__(self) -> str:
        """How an error message calls it."""
        return {"newline": "the end of the line", "end": "the end of the text"}.get(
            self.kind, repr(self.text)
        )


_TOKEN = re.compile(
    r"(?P<space>[ \t]+|\#[^\n]*)"
    r"|(?P<newline>\n)"
    r"|(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[A-Za-z][A-Za-z0-9_]*)"
    r"|(?P<symbol>\*\*|&&|\|\||<=|>=|==|!=|[-+*/^(),=<>])"
)
_HINTS = {
    "**": "write ^ for a power",
    "&&": "write and",
    "&": "write and",
    "||": "write or",
    "|": "write or, or abs(x) for a magnitude",
    "!": "write not",
    "~": "write not",
    "[": "write ( and ), there is no indexing",
    "{": "write ( and )",
    ";": "put each statement on its own line",
    "_": "begin a name with a letter",
    "'": "there are no strings",
    '"': "there are no strings",
}


def tokenize(text: str) -> list[Token]:
    """Split a text; line breaks inside parentheses are dropped."""
    if len(text) > MAX_CHARACTERS:
        raise error(
            f"the text has {len(text)} characters; the most is {MAX_CHARACTERS}",
            (1, 1),
            "size_error",
        )
    text = text.replace("\r\n", "\n")
    tokens: list[Token] = []
    place, line, line_start, open_parentheses = 0, 1, 0, 0
    while place < len(text):
        at = (line, place - line_start + 1)
        match = _TOKEN.match(text, place)
        if match is None:
            raise _unexpected(text[place], at)
        token = Token(match.lastgroup or "", match.group(), at)
        place = match.end()
        if token.kind == "newline":
            line, line_start = line + 1, place
        if token.kind == "space" or (token.kind == "newline" and open_parentheses):
            continue
        _check(token, text[place : place + 1])
        open_parentheses += (token.text == "(") - (token.text == ")")
        open_parentheses = max(open_parentheses, 0)
        tokens.append(token)
    end = (line, len(text) - line_start + 1)
    return [*tokens, Token("newline", "\n", end), Token("end", "", end)]


def _check(token: Token, following: str) -> None:
    if token.text in _HINTS:
        raise _unexpected(token.text, token.at)
    if token.kind == "number":
        if len(token.text) > MAX_DIGITS:
            raise error(
                f"a number has {len(token.text)} characters; write at most "
                f"{MAX_DIGITS}, as in 1.5e-8",
                token.at,
                "size_error",
            )
        if following.isalnum() or following in ("_", "."):
            raise error(
                f"{token.text + following!r} is neither a number nor a name; write "
                "* between factors",
                token.at,
            )
    if token.kind == "name" and len(token.text) > MAX_NAME:
        raise error(
            f"a name has {len(token.text)} characters; write at most {MAX_NAME}",
            token.at,
            "size_error",
        )


def _unexpected(character: str, at: Position) -> ExpressionError:
    hint = _HINTS.get(character, "remove it")
    return error(f"unexpected character {ascii(character)}; {hint}", at)
