"""The record of a family: everything the library knows about one algorithm."""

import dataclasses
import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Literal, TypeAlias

from learned_opt_rl.families import schema

Kind: TypeAlias = Literal["optimizer", "drift", "update_rule"]
Shapes: TypeAlias = dict[str, tuple[int, ...]]
"""Shapes of a family's weights by dotted name, in the order of the flat vector."""


@dataclasses.dataclass(frozen=True)
class Citation:
    """What to cite.

    Attributes:
        text: The reference, in words.
        url: Its address.
    """

    text: str
    url: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Family:
    """One algorithm: what its cards hold, what its weights look like, what runs it.

    Attributes:
        algorithm: Identifier, the ``algorithm`` field of cards, such as ``"open"``.
        kind: What its artifacts are: ``"optimizer"``, ``"drift"`` or
            ``"update_rule"``, or a function of the architecture that returns one.
        title: Name in headings.
        citation: What to cite on the cards of weights that this project trains.
        architecture: A frozen dataclass whose fields are those of the card's
            ``architecture``, annotated as `families.schema` reads them. A field whose
            default is ``None`` may be left out on the card.
        shapes: ``sizes -> shapes`` of the weights.
        inputs: ``sizes -> names`` of what the rule sees, in order, for the card.
        module: Dotted name of the module that runs the rule. It offers
            ``init(key, sizes)`` for training and ``from_artifact(artifact, *,
            horizon=None, environment=None, networks=None, key=None, seed=0, ...)``.
        sizes: The dataclass that a search is given, where that is not the card's
            architecture: an expression is searched by its text. Such a dataclass has
            a method ``to_architecture()``.
        init: Name of the function of ``module`` that draws weights.
        learning_rate_share: ``sizes -> share`` of Adam's tuned learning rate that
            the rule is trained with; ``None`` for a rule without a learning rate.
        uses_horizon: Whether the rule sees how much of a run is over.
        distillable: Whether its networks can imitate another rule.
        evolvable: Whether evolution strategies can train its weights.
        presets: Settings of campaigns by name, as in ``evolution/presets.json``, of a
            family that comes from elsewhere.

    Example:
        >>> from learned_opt_rl import families
        >>> family = families.find("lpo")
        >>> family.shapes(family.architecture(width=16))
        {'dense_0.kernel': (8, 16), 'dense_1.kernel': (16, 1)}
    """

    algorithm: str
    kind: Kind | Callable[[Any], Kind]
    title: str
    citation: Citation
    architecture: type[Any]
    shapes: Callable[[Any], Shapes]
    inputs: Callable[[Any], tuple[str, ...]]
    module: str
    sizes: type[Any] | None = None
    init: str = "init"
    learning_rate_share: Callable[[Any], float | None] = lambda sizes: None
    uses_horizon: bool = False
    distillable: bool = False
    evolvable: bool = True
    presets: Mapping[str, Mapping[str, Any]] = dataclasses.field(
        default_factory=dict, hash=False
    )

    def kind_of(self, architecture: Any) -> Kind:
        """Return the kind of artifacts of an architecture."""
        return self.kind(architecture) if callable(self.kind) else self.kind

    def import_module(self) -> ModuleType:
        """Import the module that runs the rule."""
        return importlib.import_module(self.module)

    def make_sizes(self, fields: Mapping[str, Any]) -> Any:
        """Build what `shapes`, `inputs` and ``init`` take, from a search's fields."""
        return (self.sizes or self.architecture)(**fields)

    def read(self, fields: Mapping[str, Any]) -> Any:
        """Build the architecture from the ``architecture`` field of a card.

        Raises:
            MismatchError: A field is unknown, missing or wrong.
        """
        absent = self._may_be_absent()
        for name in absent:
            if name in fields and fields[name] is None:
                fix = "write a value or leave it out"
                raise schema.MismatchError(f"architecture.{name}", "is None", fix)
        return schema.build(self.architecture, absent | dict(fields), "architecture")

    def to_card(self, sizes: Any) -> dict[str, Any]:
        """Return the ``architecture`` field of a card, the inverse of `read`."""
        stored = sizes if self.sizes is None else sizes.to_architecture()
        absent = self._may_be_absent()
        return {
            name: value
            for name, value in dataclasses.asdict(stored).items()
            if value is not None or name not in absent
        }

    def _may_be_absent(self) -> dict[str, None]:
        fields = dataclasses.fields(self.architecture)
        return {field.name: None for field in fields if field.default is None}
