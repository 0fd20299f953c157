"""The errors this library raises on purpose.

Each subclasses the built-in a caller would expect (``ValueError`` for a wrong
value, ``OSError`` for a failed fetch), so code that knows nothing of this
library still handles them. Every message names the argument or file, the value
found and the way out.
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


class MissingExtraError(ImportError):
    """An optional dependency is absent; the message names the extra to install."""
