"""Read a reply: one JSON object with the expected strings, or a reason to refuse it.

A reply is untrusted. It is parsed as JSON, which executes nothing, and its code is
converted to an expression, which is only parsed. The error is one line that goes back
to the model.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from learned_opt_rl import expressions
from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions import Function

LONGEST = 32_768
"""Characters of the longest reply that is read."""

# Models write line breaks into strings; JSON wants \n, but the meaning is clear.
_DECODER = json.JSONDecoder(strict=False)

# How an object begins, also one that is not valid JSON: with a key, a comment or its
# end. Other braces are prose, as in "the set {x}".
_BEGIN = re.compile(r"""\{\s*(?:\\?["'\u201c\u2018`]|//|/\*|#|\w+\s*:|\})""")

# A string, also one without an end, or a brace. It never backtracks.
_PART = re.compile(r'"(?:[^"\\]|\\.?)*(?:"|\Z)|[{}]', re.DOTALL)


def shown(text: str) -> str:
    """Return a reply as it is shown to the model again: cut where it is too long."""
    return text if len(text) <= LONGEST else f"{text[:1000]}\n[cut off: too long]"


class RefusedReplyError(ValueError):
    """A reply that cannot be used; the message is for the model.

    Attributes:
        category: One word for logs: ``"json_error"``, ``"schema_error"``,
            ``"size_error"``, or a category of `ExpressionError` or of `checks`.
    """

    def __init__(self, category: str, message: str) -> None:
        super().__init__(message)
        self.category = category


def read_object(text: str, fields: Sequence[str], *, cut: bool = False) -> Any:
    """Return the fields of the one JSON object in a reply, each a string.

    Prose or a fence around the object is ignored. An object inside one that is not
    valid JSON, or that is cut off, does not count: it may be a draft.

    Raises:
        RefusedReplyError: There is no object, or more than one, or the last is not
            valid, or a field is missing or not a string.
    """
    if len(text) > LONGEST:
        raise RefusedReplyError(
            "size_error",
            f"the reply has {len(text)} characters; write at most {LONGEST}",
        )
    found, broken = _objects(text, fields)
    wanted = "exactly one JSON object with " + ", ".join(f'"{f}"' for f in fields)
    if broken or len(found) != 1:
        problem = "the reply is empty" if not text.strip() else ""
        problem = problem or ("the reply was cut off" if cut else "") or broken
        problem = problem or f"the reply has {len(found) or 'no'} complete JSON objects"
        raise RefusedReplyError("json_error", f"{problem}; send {wanted}")
    for field in fields:
        if not isinstance(found[0].get(field), str):
            problem = "is not a string" if field in found[0] else "is missing"
            raise RefusedReplyError(
                "schema_error", f'"{field}" {problem}; send {wanted}'
            )
    # A lone surrogate is legal in JSON and cannot be written to a file.
    return {f: found[0][f].encode("utf-8", "replace").decode() for f in fields}


def read_code(code: str, kind: Any) -> Function:
    """Convert the code of a reply to an expression.

    Raises:
        RefusedReplyError: It is not an expression of the kind.
    """
    try:
        return expressions.from_python(code, kind)
    except ExpressionError as error:
        raise RefusedReplyError(error.category, str(error)) from error


def clean_name(name: str) -> str:
    """Return a name of at most 64 letters, digits and ``_``; it is only shown."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", name[:256])[:64].strip("_") or "unnamed"


def _objects(text: str, fields: Sequence[str]) -> tuple[list[dict[str, Any]], str]:
    """Return the outermost JSON objects in a text, and the error of the last.

    Every character is scanned a bounded number of times.
    """
    found: list[dict[str, Any]] = []
    failed: Exception | None = None
    closing, start = _closing(text), text.find("{")
    while start >= 0:
        if not _BEGIN.match(text, start):
            end = closing.get(start, start + 1)
        else:
            try:
                value, end = _DECODER.raw_decode(text, start)
                found += [value] if value else []
                failed = None if value else failed
            except (ValueError, RecursionError) as error:
                # Strings may be what is wrong, so braces count with and without them.
                end = max(_end(text, start), closing.get(start, len(text)))
                if start not in closing or any(f in text[start:end] for f in fields):
                    failed = error
        start = text.find("{", end)
    return found, _problem(failed) if failed else ""


def _closing(text: str) -> dict[int, int]:
    """Return, for each brace that is closed, where its span ends."""
    opened: list[int] = []
    found: dict[int, int] = {}
    for brace in re.finditer("[{}]", text):
        if brace[0] == "{":
            opened.append(brace.start())
        elif opened:
            found[opened.pop()] = brace.end()
    return found


def _end(text: str, start: int) -> int:
    """Return where an object ends, ignoring braces in strings."""
    depth = 0
    for part in _PART.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(part[0], 0)
        if not depth:
            return part.end()
    return len(text)


def _problem(error: Exception) -> str:
    """Return the error of an object, and its place, in one line."""
    if not isinstance(error, json.JSONDecodeError):
        return "the JSON object is nested too deeply, or a number has too many digits"
    fix = _fix(error.doc, error.pos, error.msg) or error.msg
    return (
        f"the JSON object is not valid at line {error.lineno}, column {error.colno}: "
        f"{fix}"
    )


def _fix(text: str, place: int, message: str) -> str:
    """Return how to fix a common mistake; empty for others."""
    near = text[place : place + 64]
    before = text[max(0, place - 64) : place]
    if "escape" in message:
        # The place is that of the backslash, or the next one.
        word = re.search(r"\\\w*", before[-1:] + near[:16])
        return f"double the backslash: write \\{word[0] if word else ''}"
    if not near.strip() or message.startswith("Unterminated"):
        return "the text ends inside the object; close its strings and braces"
    if near.startswith(("//", "/*", "#")):
        return "remove the comment"
    # Newer versions of Python point to the comma, older ones to the bracket.
    if re.match(r",?\s*[}\]]", near) and "," in (before.rstrip()[-1:], near[0]):
        return "remove the comma before the closing bracket"
    if (before[-2:] + near).startswith('"""') or near[0] in "'`\\\u201c\u2018":
        return 'write each key and string between one pair of " characters'
    if message.startswith("Expecting ','"):
        return 'a comma is missing, or a " inside a string needs a backslash before it'
    return ""
