"""The record of a search: events, from which it resumes, and a ledger of its costs.

``events.jsonl`` has every reply and every outcome, in order, and nothing that differs
between two runs with the same replies. ``ledger.jsonl`` has seconds, environment steps,
tokens and prices, and the proposal. Both are only appended to.
"""

import dataclasses
import functools
import importlib.resources
import itertools
import json
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from learned_opt_rl import checks
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.checkpoint import differences
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.training.proposal.providers import (
    Message,
    Provider,
    ProviderError,
    Replay,
    Reply,
)
from learned_opt_rl.training.proposal.reply import (
    RefusedReplyError,
    read_code,
    read_object,
    shown,
)

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
    """The events and the ledger of a folder.

    ``proposal`` names the proposal whose costs follow.
    """

    def __init__(self, folder: pathlib.Path, limits: Limits) -> None:
        self.proposal: str | None = None
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
        """Append the wall-clock seconds of a stage, and its other costs.

        Trainings have environment ``steps`` and an ``environment``. Replies have
        ``prompt_tokens``, ``completion_tokens``, a ``price`` in dollars, a ``model``
        and a ``provider``.
        """
        row = {"stage": stage, "proposal": self.proposal}
        row |= {"seconds": round(seconds, 3), **costs}
        jsonl.append(self._folder / LEDGER, [row])
        self._ledger.append(row)

    def spent(self, what: str) -> float:
        """Return a sum over all sessions: seconds, dollars or environment steps."""
        return sum(row.get(what) or 0.0 for row in self._ledger)

    def summary(self) -> str:
        """Return the costs of all sessions, in words."""
        replies = sum(row["stage"] == "reply" for row in self._ledger)
        asked = f"{replies:,} replies, " if replies else ""
        return f"total: {asked}{in_words([totals(self._ledger)])}"

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


def totals(ledger: Sequence[Record]) -> Record:
    """Return the sums of a ledger.

    These are environment ``steps``, ``seconds``, ``tokens`` of prompts and replies, and
    ``price`` in dollars. The last two are None if one is not known.
    """
    asked = [row for row in ledger if row["stage"] == "reply"]
    tokens = [row.get(f"{n}_tokens") for row in asked for n in ("prompt", "completion")]
    return {
        "steps": sum(row.get("steps") or 0 for row in ledger),
        "seconds": round(sum(row["seconds"] for row in ledger)),
        "tokens": _total(tokens),
        "price": _total([row.get("price") for row in asked]),
    }


def _total(costs: Sequence[Any]) -> Any:
    """Return a sum, which is not known if a part is not."""
    return None if None in costs else sum(costs)


def in_words(stages: Sequence[Record]) -> str:
    """Return the costs of all stages, in words."""
    searches = [stage for stage in stages if "seconds" in stage]
    hours = sum(stage["seconds"] for stage in searches) / 3600
    steps = sum(stage["steps"] for stage in searches)
    tokens, price = (
        _total([s[name] for s in searches]) for name in ("tokens", "price")
    )
    if tokens == 0:
        return f"{hours:.2g} hours, {steps:.2g} environment steps"
    asked = "an unknown number of" if tokens is None else f"{tokens:,}"
    paid = "at an unknown price" if price is None else f"for ${price:.4g}"
    return (
        f"{hours:.2g} hours of training and of replies, including the wait for them, "
        f"{steps:.2g} environment steps, {asked} paid tokens {paid}"
    )


@functools.cache
def _table() -> dict[str, Any]:
    file = importlib.resources.files("learned_opt_rl.training.proposal") / "prices.json"
    return json.loads(file.read_text(encoding="utf-8"))["models"]


class Session:
    """Request replies and evaluate them, or reuse recorded events.

    Args:
        journal: The record.
        provider: The provider of replies.
        limits: For the prices of replies.
        recall: Only read recorded events.
    """

    def __init__(
        self,
        journal: Journal,
        provider: Provider | None,
        limits: Limits,
        recall: bool = False,
    ) -> None:
        self.journal, self._provider, self._limits = journal, provider, limits
        self._recall, self._recalled, self._replies = recall, 0, 0
        self._asked: dict[str, list[Message]] = {}

    def remember(
        self,
        event: str,
        make: Callable[[], Mapping[str, Any]],
        *,
        derived: bool = False,
        **key: Any,
    ) -> Record:
        """Return the next event if it is recorded, else make and record it.

        Fields of ``key`` that a recorded event lacks are not compared. A ``derived``
        event follows from those before it, so a record need not have it.

        Raises:
            ValueError: The recorded event does not match: the folder's settings or
                the library have changed.
            ProviderError: There is no such event, and only recorded ones are read.
        """
        there = self._recalled < len(self.journal.events)
        found = self.journal.events[self._recalled] if there else {}
        if derived and (there or self._recall) and found.get("event") != event:
            return {"event": event, **key, **make()}
        if there:
            wanted = {"event": event, **key}
            shared = {n: found[n] for n in wanted if n in found}
            changed = differences(shared, {n: wanted[n] for n in shared})
            if changed:
                raise ValueError(
                    f"event {self._recalled + 1} of the run is not the one that now "
                    f"follows ({'; '.join(changed)}); continue with the version and "
                    "the settings of its config.json, or in another folder"
                )
        elif self._recall:
            raise ProviderError("the record ends here; pass a provider to continue")
        else:
            found = self.journal.add(event, **key, **make())
        self._recalled += 1
        return found

    def ask(
        self,
        messages: Sequence[Message],
        temperature: float | None,
        *,
        role: str,
        attempt: int = 1,
    ) -> Record:
        """Return the fields of the reply to a conversation, as `Reply` has them.

        The event has the messages after the first ``kept`` of the last conversation
        with the same role, which ends with its reply.

        Raises:
            ProviderError: There is no reply, or no provider.
            LimitReachedError: A limit is reached.
        """

        def reply() -> Mapping[str, Any]:
            found = self._complete(messages, temperature, role)
            before = self._asked.get(role, [])
            pairs = zip(before, messages, strict=False)
            kept = sum(1 for _ in itertools.takewhile(lambda p: p[0] == p[1], pairs))
            text = found.text.encode("utf-8", "replace").decode()
            return {
                "temperature": temperature,
                "kept": kept,
                "messages": list(messages[kept:]),
                "reply": found._replace(text=text)._asdict(),
            }

        event = self.remember("reply", reply, role=role, attempt=attempt)
        before = self._asked.get(role, [])[: event.get("kept", 0)]
        said = Message(role="assistant", content=shown(event["reply"]["text"]))
        self._asked[role] = [*before, *event.get("messages", ()), said]
        self._replies += 1
        return event["reply"]

    def read(
        self, reply: Record, fields: Sequence[str], kind: str | None = None
    ) -> Record:
        """Return the texts of a reply, with its code as the expression ``text``.

        Without ``kind`` the reply has no code. A reply that cannot be used has a
        ``problem`` and its ``category``. Raises ValueError as `remember`.
        """
        started = time.perf_counter()
        recorded = len(self.journal.events)

        def parsed() -> Mapping[str, Any]:
            made: Record = {"category": "", "problem": ""}
            try:
                made |= read_object(reply["text"], fields, cut=reply["cut"])
                if kind is not None:
                    made["text"] = read_code(made["code"], kind).to_text()
            except RefusedReplyError as error:
                made |= {"category": error.category, "problem": str(error)}
            return made

        event = self.remember("read", parsed, derived=True)
        if len(self.journal.events) > recorded:
            self.journal.spend("parse", time.perf_counter() - started)
        return event

    def _complete(
        self, messages: Sequence[Message], temperature: float | None, role: str
    ) -> Reply:
        # Without a provider, `remember` has refused to ask.
        provider = cast(Provider, self._provider)
        self.journal.check_limits()
        started = time.perf_counter()
        # The seed is the number of the reply in the run, also after it is resumed.
        found = provider.complete(messages, temperature=temperature, seed=self._replies)
        # The reply of a record was paid in the recorded run.
        paid = found
        if isinstance(provider, Replay):
            provider.require(self._replies, role)
            paid = found._replace(prompt_tokens=0, completion_tokens=0)
        self.journal.spend(
            "reply",
            time.perf_counter() - started,
            provider=type(provider).__name__,
            model=found.model,
            prompt_tokens=paid.prompt_tokens,
            completion_tokens=paid.completion_tokens,
            price=self._limits.price(paid),
        )
        return found


def usable(found: Record) -> Record:
    """Return the texts of a reply (`Session.read`).

    Raises:
        RefusedReplyError: The reply has a ``problem``.
    """
    if found["problem"]:
        raise RefusedReplyError(found["category"], found["problem"])
    return found
