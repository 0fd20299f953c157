"""Read a reply: one JSON object with the expected texts, or a reason to refuse it.

A reply is untrusted. It is parsed as JSON, which executes nothing, and its code is
converted to an expression, which is only parsed. What is wrong is one line that goes
back to the model.
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

# Places in a reply where an object may begin. Prose before it rarely has more braces,
# and each try may read the whole reply.
_TRIES = 32

# Models write line breaks into strings; JSON wants \n, but the meaning is clear.
_DECODER = json.JSONDecoder(strict=False)


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
    """Return the fields of the one JSON object in a reply, each a text.

    Prose or a fence around the object is ignored.

    Raises:
        RefusedReplyError: There is no object, or more than one, or a field is not a
            text.
    """
    if len(text) > LONGEST:
        raise RefusedReplyError(
            "size_error",
            f"the reply has {len(text)} characters; write at most {LONGEST}",
        )
    found = _objects(text)
    wanted = "exactly one JSON object with " + ", ".join(f'"{f}"' for f in fields)
    if len(found) != 1:
        problem = "the reply is empty" if not text.strip() else ""
        problem = problem or ("the reply was cut off" if cut else "")
        problem = problem or f"the reply has {len(found) or 'no'} complete JSON objects"
        raise RefusedReplyError("json_error", f"{problem}; send {wanted}")
    for field in fields:
        if not isinstance(found[0].get(field), str):
            raise RefusedReplyError(
                "schema_error", f'"{field}" is not a text; send {wanted}'
            )
    # A lone surrogate is legal in JSON and cannot be written to a file.
    return {f: found[0][f].encode("utf-8", "replace").decode() for f in fields}


def read_code(code: str, kind: Any) -> Function:
    """Convert the code of a reply to an expression, or raise `RefusedReplyError`."""
    try:
        return expressions.from_python(code, kind)
    except ExpressionError as error:
        raise RefusedReplyError(error.category, str(error)) from error


def clean_name(name: str) -> str:
    """Return a name of at most 64 letters, digits and ``_``; it is only shown."""
    return re.sub(r"[^A-Za-z0-9_]+", "_", name[:256])[:64].strip("_") or "unnamed"


def _objects(text: str) -> list[dict[str, Any]]:
    """Return the outermost JSON objects in a text."""
    found, start = [], 0
    for _ in range(_TRIES):
        start = text.find("{", start)
        if start < 0:
            break
        try:
            value, start = _DECODER.raw_decode(text, start)
        except (ValueError, RecursionError):
            start += 1
        else:
            found.append(value)
    return found
