"""Who answers the prompts: a protocol, and providers that need no network.

A provider maps a conversation to a reply. `openai_api` has the one that calls an
endpoint. The providers here ignore temperatures and seeds. Replies are untrusted text,
which nothing here reads.
"""

import hashlib
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypedDict

from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically


class Message(TypedDict):
    """A message of a conversation; ``role`` is system, user or assistant."""

    role: str
    content: str


class Reply(NamedTuple):
    """What a provider answers.

    Attributes:
        text: The reply, any text.
        model: The model's name as the provider states it.
        prompt_tokens: Tokens of the messages; None if not known.
        completion_tokens: Tokens of the reply, with those of hidden reasoning.
        cut: Whether the reply was cut off at a length limit.
    """

    text: str
    model: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cut: bool = False


class Provider(Protocol):
    """Anything that answers a conversation."""

    def complete(
        self,
        messages: Sequence[Message],
        *,
        temperature: float | None = None,
        seed: int | None = None,
    ) -> Reply:
        """Return the next message of a conversation.

        Raises:
            ProviderError: There is no reply, or none yet.
        """
        ...


class ProviderError(OSError):
    """No reply came; the message says what to do. Nothing of the run is lost."""


class Scripted:
    """Replies from a list, one per call: for tests and rehearsals.

    The reply to a conversation depends only on how many replies it already holds, so a
    resumed run gets the replies of an unbroken one.
    """

    def __init__(self, replies: Sequence[str]) -> None:
        self._replies = replies

    def complete(self, messages: Sequence[Message], **_: Any) -> Reply:
        """Return the next reply of the list."""
        replies = self._replies
        done = sum(message["role"] == "assistant" for message in messages)
        if done >= len(replies):
            raise ProviderError(f"the script has {len(replies)} replies; add one")
        return Reply(replies[done], "scripted")


class Files:
    """Replies from files: a web chat or a person answers, without a key.

    Each prompt is written to ``prompt-HASH.md`` in a folder. The reply is read from
    ``reply-HASH.md`` beside it. The hash is of the conversation, so that a reply can
    only answer its own prompt.

    Args:
        folder: The folder; created if it does not exist.
        wait: Seconds to wait for a reply. With 0, a missing one is an error at once,
            and the run is resumed when the reply is there.
        model: The name to record for whoever answers.
    """

    def __init__(
        self, folder: pathlib.Path, wait: float = 0.0, model: str = "files"
    ) -> None:
        self._folder, self._wait, self._model = folder, wait, model

    def complete(self, messages: Sequence[Message], **_: Any) -> Reply:
        """Return the content of the reply's file, which must be UTF-8."""
        key = fingerprint(messages)[:12]
        prompt = self._folder / f"prompt-{key}.md"
        reply = self._folder / f"reply-{key}.md"
        if not reply.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(prompt, _readable(messages).encode())
        until = time.monotonic() + self._wait
        # An empty file is one that is still being written.
        while not (reply.exists() and reply.read_bytes().strip()):
            if time.monotonic() >= until:
                raise ProviderError(
                    f"{prompt}: no reply yet. Save the reply as {reply.name} in the "
                    "same folder and repeat the command"
                )
            time.sleep(min(1.0, self._wait))
        # Nothing is paid, so the tokens are 0.
        text = reply.read_text("utf-8", errors="replace")
        return Reply(text, self._model, 0, 0)


class Replay:
    """Replies of a recorded run, by conversation; see `recorded`.

    A conversation that was not recorded is a `ProviderError`.
    """

    def __init__(self, replies: Mapping[str, Sequence[Reply]]) -> None:
        self._replies = {key: list(own) for key, own in replies.items()}

    def complete(self, messages: Sequence[Message], **_: Any) -> Reply:
        """Return the recorded reply to exactly this conversation."""
        key = fingerprint(messages)
        if not self._replies.get(key):
            raise ProviderError(
                f"no recorded reply to the conversation {key[:12]}: the record ends "
                "before it, or the run has other settings"
            )
        # The same conversation may have been held twice, with another reply.
        return self._replies[key].pop(0)


def recorded(path: pathlib.Path) -> dict[str, list[Reply]]:
    """Return the replies in the events of a run, in order, by conversation."""
    found: dict[str, list[Reply]] = {}
    for row in jsonl.read(path):
        if row.get("event") == "reply":
            replies = found.setdefault(row["conversation"], [])
            replies.append(Reply(**row["reply"]))
    return found


def fingerprint(messages: Sequence[Message]) -> str:
    """Return a hash of a conversation, 64 hexadecimal digits."""
    content = json.dumps([[m["role"], m["content"]] for m in messages])
    return hashlib.sha256(content.encode()).hexdigest()


def _readable(messages: Sequence[Message]) -> str:
    return "\n\n".join(f"# {m['role']}\n\n{m['content']}" for m in messages) + "\n"
