"""One session of a search in its folder: what is recorded is recalled, the rest is new.

A search is a deterministic function of its replies and scores, and the events have both
in order. A resumed search begins from its start and takes what the events have, so it
continues as an unbroken one would.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from learned_opt_rl.rundir.checkpoint import differences
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.training.proposal.journal import Journal, Limits
from learned_opt_rl.training.proposal.providers import (
    Message,
    Provider,
    ProviderError,
    Replay,
    fingerprint,
)


class Session:
    """Asks and evaluates, unless the events already have the answer.

    Args:
        journal: The record.
        provider: Who answers.
        limits: For the prices of replies.
        recall: Whether to make nothing new.
    """

    def __init__(
        self,
        journal: Journal,
        provider: Provider | None,
        limits: Limits,
        recall: bool = False,
    ) -> None:
        self.journal, self._provider, self._limits = journal, provider, limits
        self._recall, self._recalled = recall, 0

    def remember(
        self, event: str, make: Callable[[], Mapping[str, Any]], **key: Any
    ) -> Record:
        """Return the next event if it is recorded, else make and record it.

        Raises:
            ValueError: The recorded event is another: the folder's settings or the
                library have changed.
        """
        events = self.journal.events
        if self._recalled < len(events):
            found = events[self._recalled]
            wanted = {"event": event, **key}
            changed = differences({n: found.get(n) for n in wanted}, wanted)
            if changed:
                raise ValueError(
                    f"event {self._recalled + 1} of the run is not the one that now "
                    f"follows ({'; '.join(changed)}); continue with the version and "
                    "the settings of its config.json, or in another folder"
                )
        elif self._recall:
            raise ProviderError("the record ends here; nothing new is made")
        else:
            found = self.journal.add(event, **key, **make())
        self._recalled += 1
        return found

    def ask(self, messages: Sequence[Message], temperature: float | None) -> Any:
        """Return the fields of the reply to a conversation, as `Reply` has them.

        Raises:
            ProviderError: There is no reply, or no provider.
            LimitReachedError: A limit is reached.
        """

        def reply() -> Mapping[str, Any]:
            provider: Any = self._provider
            self.journal.check_limits()
            started = time.perf_counter()
            # A seed of its own for every reply, for providers that take one.
            found = provider.complete(
                messages, temperature=temperature, seed=len(self.journal.events)
            )
            # The reply of a record was paid in the recorded run.
            paid = found
            if isinstance(provider, Replay):
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
            text = found.text.encode("utf-8", "replace").decode()
            return {"reply": found._replace(text=text)._asdict()}

        key = fingerprint(messages)
        return self.remember("reply", reply, conversation=key)["reply"]
