"""Cards: the JSON file that describes an artifact, and its schema.

A card names its weights by sha256 and states their origin, license, training, results
and failures. The annotations of the dataclasses below are the schema, which is strict:
every field has to be present, and an unknown field is an error.
"""

import dataclasses
import html
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from learned_opt_rl import families
from learned_opt_rl.errors import CardError
from learned_opt_rl.families import Citation as Citation
from learned_opt_rl.families import schema
from learned_opt_rl.families.family import Kind

# People write these when they do not know the license; none of them is a license.
_NOT_A_LICENSE = r"(?!(?i:none|unknown|custom|other|proprietary|noassertion|tbd)$)"
_SPDX_ID = r"\(?[A-Za-z0-9][A-Za-z0-9.+-]*\)?"

_NAME = schema.matches(
    r"[a-z0-9][a-z0-9_-]{0,63}(/[a-z0-9][a-z0-9_-]{0,63})?",
    "use 'name' or 'namespace/name' of lower-case letters, digits, '-' and '_'",
)
_IDENTIFIER = schema.matches(
    r"[a-z][a-z0-9_]{0,63}",
    "use the rule's identifier: lower-case letters, digits and '_'",
)
_LICENSE = schema.matches(
    rf"{_NOT_A_LICENSE}{_SPDX_ID}( (AND|OR|WITH) {_SPDX_ID})*",
    "use an SPDX identifier such as 'Apache-2.0' or 'MIT' (https://spdx.org/licenses)",
)
_SHA256 = schema.matches(
    r"[0-9a-f]{64}", "use the 64 lower-case hexadecimal digits that sha256sum prints"
)
_FILE = schema.matches(
    r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}\.(safetensors|txt)",
    "name a .safetensors or .txt file in the card's own folder",
)
_HTTPS = schema.matches(
    r"https://[a-z0-9.-]+(:[0-9]{1,5})?(/[A-Za-z0-9._~%@+-]+)+",
    "write a plain https:// address that ends in a file name",
)

# Named here, because the field `schema` of a card hides the module's name.
_Architecture: TypeAlias = Mapping[str, schema.Scalar]


@dataclasses.dataclass(frozen=True)
class CardHorizon:
    """The length of the runs an artifact was trained for.

    Attributes:
        total_updates: Optimizer steps in one run.
        epochs: Passes over each rollout.
        minibatches: Minibatches per pass.
    """

    total_updates: schema.Size
    epochs: schema.Size
    minibatches: schema.Size


@dataclasses.dataclass(frozen=True)
class Training:
    """How an artifact was trained.

    Attributes:
        method: The meta-training method, such as ``"evolution strategies"``.
        environments: The environments it was trained on.
        description: What else a reader needs to judge or repeat the training.
        command: The command that trains it, or ``None`` if there is none.
        compute: The cost of the training, in words.
        source: Address of the training code, or ``None`` for this project.
    """

    method: str
    environments: tuple[str, ...]
    description: str
    command: str | None
    compute: str
    source: str | None


@dataclasses.dataclass(frozen=True)
class FileWeights:
    """Weights, or the text of an expression, in a file beside the card.

    Attributes:
        file: The file's name, without a folder.
        sha256: Digest of the file, 64 lower-case hexadecimal digits.
        parameters: Number of weights, or of an expression's tunable constants.
        format: ``"safetensors"``, or ``"expression"`` for a text of
            `learned_opt_rl.expressions`.
    """

    file: Annotated[str, _FILE]
    sha256: Annotated[str, _SHA256]
    parameters: schema.Count
    format: Literal["safetensors", "expression"]


@dataclasses.dataclass(frozen=True)
class RemoteWeights:
    """Weights at a pinned address, fetched only on request.

    Attributes:
        url: The https address; its last part is the file's name.
        sha256: Digest of the file, 64 lower-case hexadecimal digits.
        bytes: Size of the file.
        parameters: Number of weights.
        format: Always ``"flat_npy"``: one float32 vector in the authors' order.
    """

    url: Annotated[str, _HTTPS]
    sha256: Annotated[str, _SHA256]
    bytes: schema.Size
    parameters: schema.Size
    format: Literal["flat_npy"] = "flat_npy"


@dataclasses.dataclass(frozen=True)
class Result:
    """One measured number.

    Attributes:
        environment: Where it was measured.
        steps: Environment steps per run.
        seeds: Number of independent runs.
        metric: What was measured, such as ``"final return"``.
        mean: The mean over seeds.
        interval: Lower and upper bound, or ``None``.
        method: How the interval was computed.
        source: Path of the raw results, or the paper that states the number.
        command: The command that repeats the measurement, or ``None``.
    """

    environment: str
    steps: schema.Size
    seeds: schema.Size
    metric: str
    mean: float
    interval: schema.Interval | None
    method: str
    source: str
    command: str | None

    def __str__(self) -> str:
        line = f"{self.environment}, {self.steps:,} steps: {self.metric} "
        line += f"{self.mean:.4g}"
        if self.interval is not None:
            low, high = self.interval
            line += f" [{low:.4g}, {high:.4g}]"
        seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        return f"{line} over {seeds} ({self.method}; {self.source})"


@dataclasses.dataclass(frozen=True)
class Card:
    """The description of one artifact: everything except its weights.

    Attributes:
        schema: Version of this schema, 1.
        name: ``"name"`` or ``"namespace/name"``.
        kind: ``"optimizer"`` (makes an optax transformation), ``"drift"`` (a function
            of ratio and advantage for a policy loss) or ``"update_rule"`` (makes an
            agent's targets, as LPG).
        title: One line, shown as a heading.
        summary: Its purpose, in a sentence.
        algorithm: Identifier of the rule that runs it, such as ``"open"``.
        representation: ``"network"`` or ``"expression"``.
        architecture: The fields of the ``Architecture`` of the algorithm's family;
            for ``"open"`` ``carry`` (``null`` for a feed-forward network) and
            ``width``.
        inputs: Names of what the rule sees, in order.
        horizon: The run length it was trained for, or ``None`` if the rule does not
            use the progress of training.
        training: How it was trained.
        license: SPDX expression.
        citation: What to cite.
        weights: Where the weights are, and their digest.
        results: What was measured with it.
        known_failures: Cases in which it does not work.

    Example:
        >>> from learned_opt_rl import artifacts
        >>> card = artifacts.card("goldie2024/minatar")
        >>> card.license, card.weights.parameters, card.is_remote
        ('Apache-2.0', 3571, True)
    """

    schema: Literal[1]
    name: Annotated[str, _NAME]
    kind: Kind
    title: str
    summary: str
    algorithm: Annotated[str, _IDENTIFIER]
    representation: Literal["network", "expression"]
    architecture: _Architecture
    inputs: tuple[str, ...]
    horizon: CardHorizon | None
    training: Training
    license: Annotated[str, _LICENSE]
    citation: Citation
    weights: FileWeights | RemoteWeights
    results: tuple[Result, ...]
    known_failures: tuple[str, ...]

    @property
    def is_remote(self) -> bool:
        """Whether the weights have to be fetched."""
        return isinstance(self.weights, RemoteWeights)

    def _repr_html_(self) -> str:
        """Return what a notebook shows: purpose, results and known failures."""

        def listed(title: str, items: Iterable[object]) -> str:
            lines = "".join(f"<li>{html.escape(str(item))}</li>" for item in items)
            return f"<p>{title}</p><ul>{lines}</ul>" if lines else ""

        facts = (
            f"{self.kind}, {self.algorithm}, {self.weights.parameters:,} parameters, "
            f"{self.license}; trained on "
            f"{', '.join(self.training.environments) or 'no environment'}"
        )
        return (
            f"<h4>{html.escape(f'{self.name}: {self.title}')}</h4>"
            f"<p>{html.escape(self.summary)}</p><p>{html.escape(facts)}</p>"
            + listed("Results", self.results)
            + listed("Known failures", self.known_failures)
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], *, source: str = "card") -> "Card":
        """Check a parsed card against the schema and build it.

        Args:
            data: The parsed JSON.
            source: Named in errors; the path of the card's file.

        Raises:
            CardError: A field is unknown, missing or wrong. The message names the
                source, the field, the value found and the fix.

        Example:
            >>> Card.from_dict({"schema": 2}, source="card.json")
            Traceback (most recent call last):
                ...
            learned_opt_rl.errors.CardError: card.json: schema is 2, but this version of
            learned_opt_rl reads schema 1; update it: pip install -U learned-opt-rl
        """
        _check_schema(data, source)
        try:
            card = schema.build(cls, data)
            _check_consistent(card)
        except schema.MismatchError as mismatch:
            raise CardError(f"{source}: {mismatch}") from None
        return card

    def to_dict(self) -> dict[str, Any]:
        """Return the card as plain JSON types, with keys in the order of the schema.

        Example:
            >>> from learned_opt_rl import artifacts
            >>> card = artifacts.card("goldie2024/ant")
            >>> Card.from_dict(card.to_dict()) == card
            True
        """
        return json.loads(json.dumps(dataclasses.asdict(self)))  # tuples to lists

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Card":
        """Read a card from its JSON file.

        Raises:
            CardError: The file is unreadable, larger than 256 KiB, not UTF-8, not
                strict JSON, or not of the schema.

        Example:
            >>> Card.load("missing.json")
            Traceback (most recent call last):
                ...
            learned_opt_rl.errors.CardError: missing.json: cannot be read (No such
            file or directory); restore it
        """
        path = pathlib.Path(path)
        return cls.from_dict(_read_json(path), source=str(path))


def is_name(name: str) -> bool:
    """Return whether an artifact can have a name; such a name is a safe path."""
    try:
        _NAME(name, "name")
    except schema.MismatchError:
        return False
    return True


_SCHEMA = 1


def _check_schema(data: Any, source: str) -> None:
    """Refuse a card of a later schema, before its new fields raise other errors."""
    found = data.get("schema") if isinstance(data, Mapping) else None
    if type(found) is int and found > _SCHEMA:
        raise CardError(
            f"{source}: schema is {found}, but this version of learned_opt_rl reads "
            f"schema {_SCHEMA}; update it: pip install -U learned-opt-rl"
        )


def _check_consistent(card: Card) -> None:
    """Check that algorithm, kind, architecture and weights go together."""
    family, stored = families.known(card.algorithm), card.weights
    architecture = None if family is None else family.read(card.architecture)
    if isinstance(stored, RemoteWeights) and card.algorithm != "open":
        # The order of the flat vector is known for OPEN only.
        fix = "use 'safetensors' for algorithms other than 'open'"
        raise schema.MismatchError("weights.format", "is 'flat_npy'", fix)
    if (card.algorithm == "expression") != (stored.format == "expression"):
        fix = "algorithm 'expression' and format 'expression' go together"
        raise schema.wrong("weights.format", stored.format, fix)
    if isinstance(stored, FileWeights):
        _check_file(stored)
    kind = card.kind if family is None else family.kind_of(architecture)
    if card.kind != kind:
        fix = f"write '{kind}' for this algorithm and architecture"
        raise schema.wrong("kind", card.kind, fix)


def _check_file(stored: FileWeights) -> None:
    suffix = ".txt" if stored.format == "expression" else ".safetensors"
    if not stored.file.endswith(suffix):
        fix = f"name a {suffix} file in the card's own folder"
        raise schema.wrong("weights.file", stored.file, fix)
    if stored.parameters == 0 and suffix == ".safetensors":
        fix = "write an integer of at least 1"
        raise schema.MismatchError("weights.parameters", "is 0", fix)


def claimed_name(path: pathlib.Path) -> str | None:
    """Return the name a card states, even if the rest of it is unusable."""
    try:
        name = _read_json(path)["name"]
    except (CardError, TypeError, KeyError):
        return None
    return name if isinstance(name, str) and name.isprintable() else None


# A card is prose and a few numbers; anything larger is not a card.
_MAX_BYTES = 256 * 1024


def _read_json(path: pathlib.Path) -> Any:
    """Read strict JSON: what two readers could understand differently is refused."""
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or error
        raise CardError(f"{path}: cannot be read ({reason}); restore it") from error
    if len(content) > _MAX_BYTES:
        raise CardError(
            f"{path}: is larger than {_MAX_BYTES} bytes; "
            "a card holds prose only, so move data to separate files"
        )
    try:
        return _parse(content)
    except ValueError as error:
        raise CardError(f"{path}: {error}") from error


def _parse(content: bytes) -> Any:
    def refuse_constant(constant: str) -> None:
        raise ValueError(f"holds {constant}, which is not valid JSON; write null")

    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=refuse_constant,
            parse_float=_finite_float,
        )
    except UnicodeDecodeError as error:
        raise ValueError(
            f"is not UTF-8 (byte {error.start}); save it in that encoding"
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
            "correct it there"
        ) from error
    except RecursionError as error:
        raise ValueError("is nested too deeply; a card has 3 levels") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"repeats the key {key!r}; keep one of the two")
        result[key] = value
    return result


def _finite_float(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise ValueError(f"holds {literal}, too large for a float; write null")
    return value
