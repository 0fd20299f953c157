"""The record of a search: events, from which it resumes, and a ledger of its costs.

``events.jsonl`` has every reply and every outcome, in order, and nothing that differs
between two runs with the same replies. ``ledger.jsonl`` has seconds, environment steps,
tokens and prices. Both are only appended to.
"""

import dataclasses
import functools
import importlib.resources
import json
import pathlib
from typing import Any

from learned_opt_rl import checks
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.training.proposal.providers import Reply

EVENTS = "events.jsonl"
LEDGER = "ledger.jsonl"


class LimitReachedError(RuntimeError):
    """A limit of cost, steps or time is reached; nothing of the run is lost."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds on the costs of a search, over all its sessions; None for no bound.

    Attributes:
        max_cost: US dollars. Without the price of a model it cannot be kept, so the
            first reply of an unknown model ends the search.
        max_steps: Environment steps.
        max_hours: Hours of evaluations and of replies, including the wait for them.
        prices: Dollars per million tokens of prompt and reply, for every model; None
            for the dated table ``prices.json``.

    Raises:
        ValueError: A bound is negative or not finite.
    """

    max_cost: float | None = None
    max_steps: float | None = None
    max_hours: float | None = None
    prices: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("max_cost", "max_steps", "max_hours"):
            value = getattr(self, name)
            if value is not None:
                checks.finite(name, value, "give 0 or more, or None", least=0)
        for price in self.prices or ():
            checks.finite("prices", price, "give dollars per million tokens", least=0)

    def price(self, reply: Reply) -> float | None:
        """Return the price of a reply in dollars; None if it is not known."""
        prices = self.prices or _table().get(reply.model)
        tokens = reply.prompt_tokens, reply.completion_tokens
        if not any(tokens) and None not in tokens:
            return 0.0
        if prices is None or None in tokens:
            return None
        pairs = zip(prices, tokens, strict=True)
        return sum(price * count for price, count in pairs if count) / 1e6


class Journal:
    """The events and the ledger of a folder."""

    def __init__(self, folder: pathlib.Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        self.events: list[Record] = jsonl.read(folder / EVENTS)
        self._ledger: list[Record] = jsonl.read(folder / LEDGER)

    def add(self, event: str, **fields: Any) -> Record:
        """Append an event; it is on the disk when this function returns."""
        row = {"event": event, **fields}
        jsonl.append(self._folder / EVENTS, [row])
        self.events.append(row)
        return row

    def spend(self, stage: str, seconds: float, **costs: Any) -> None:
        """Append a cost: ``steps``, or ``tokens``, ``price`` and ``model``."""
        row = {"stage": stage, "seconds": round(seconds, 3), **costs}
        jsonl.append(self._folder / LEDGER, [row])
        self._ledger.append(row)

    def spent(self, what: str) -> float:
        """Return the sum of a cost over all sessions."""
        return sum(row.get(what) or 0.0 for row in self._ledger)

    def check_limits(self) -> None:
        """Raise `LimitReachedError` if a limit is reached."""
        limits = self._limits
        unpriced = [r for r in self._ledger if "price" in r and r["price"] is None]
        if limits.max_cost is not None and unpriced:
            raise LimitReachedError(
                f"max_cost={limits.max_cost:g} cannot be kept: model "
                f"{unpriced[0].get('model')!r} has no known price or stated no tokens; "
                "give --prices PROMPT REPLY in dollars per million tokens"
            )
        for name, spent, unit in (
            ("max_cost", self.spent("price"), "dollars"),
            ("max_steps", self.spent("steps"), "environment steps"),
            ("max_hours", self.spent("seconds") / 3600, "hours"),
        ):
            bound = getattr(limits, name)
            if bound is not None and spent >= bound:
                raise LimitReachedError(
                    f"{name}={bound:g} is reached: {spent:.4g} {unit} are spent; raise "
                    "it and repeat the command to continue"
                )


@functools.cache
def _table() -> dict[str, Any]:
    file = importlib.resources.files("learned_opt_rl.training.proposal") / "prices.json"
    return json.loads(file.read_text(encoding="utf-8"))["models"]
