"""The errors this library raises on purpose.

Each subclasses the built-in a caller would expect (``ValueError`` for a wrong
value, ``OSError`` for a failed fetch), so code that knows nothing of this
library still handles them. Every message names the argument or file, the value
found and the fix.
"""


class ArtifactError(ValueError):
    """An artifact (card or weights) is unusable; the base of the errors below."""


class UnknownArtifactError(ArtifactError):
    """No artifact has the requested name."""


class CardError(ArtifactError):
    """A card does not satisfy the schema of ``artifacts.card``."""


class WeightsError(ArtifactError):
    """A weights file is damaged, unsafe, or not of the architecture expected."""


class FetchError(ArtifactError, OSError):
    """A remote artifact could not be fetched; the cache was left unchanged."""


class HorizonWarning(UserWarning):
    """A rule was built without ``horizon=`` and assumes the one it was trained for.

    Rules that anneal stop moving the parameters past their horizon, without an error.

    Example:
        >>> import warnings
        >>> from learned_opt_rl import HorizonWarning, open_rl
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("ignore", HorizonWarning)
        ...     tx = open_rl.pretrained("minatar")
    """


class RolesWarning(UserWarning):
    """An optimizer guessed which parameters explore, or the order of the layers.

    ``features.explain(params)`` prints the guess; ``networks=`` and ``layers=``
    override it. The warning appears once for each structure of the parameters.

    Example:
        >>> import warnings
        >>> from learned_opt_rl.errors import RolesWarning
        >>> warnings.simplefilter("ignore", RolesWarning)
    """


class MissingExtraError(ImportError):
    """An optional dependency is absent; the message names the extra to install."""


class ExpressionError(ValueError):
    """A text is not a valid expression, or the arguments of a call do not fit.

    Attributes:
        problem: What is wrong and how to fix it, without the place.
        line: Where, counted from 1; ``None`` where there is no text to point into.
        column: Where in the line, counted from 1.
        category: The kind of mistake, one word for logs: ``"syntax_error"``,
            ``"structure_error"``, ``"signature_error"``, ``"forbidden_syntax"``,
            ``"name_error"``, ``"type_error"``, ``"shape_error"``,
            ``"return_error"``, ``"size_error"`` or ``"call_error"``.
    """

    def __init__(
        self,
        problem: str,
        line: int | None = None,
        column: int | None = None,
        category: str = "syntax_error",
    ) -> None:
        place = "" if line is None else f"line {line}, column {column}: "
        super().__init__(place + problem)
        self.problem = problem
        self.line = line
        self.column = column
        self.category = category
