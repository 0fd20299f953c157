"""One session of a search in its folder: what is recorded is recalled, the rest is new.

A search is determined by its replies and scores, which events.jsonl records in order. A
resumed search starts again and reads recorded events first. A recorded reply keeps its
meaning, even if the prompts or the converter have changed.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from learned_opt_rl.rundir.checkpoint import differences
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.training.proposal.journal import Journal, Limits
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


class Session:
    """Asks and evaluates, unless the events already have the answer.

    Args:
        journal: The record.
        provider: Who answers.
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
