"""Providers of replies: an endpoint, or a provider that needs no network.

A provider maps a conversation to a reply. All but the endpoint's ignore temperatures
and seeds. Replies are untrusted text, which nothing here reads.
"""

import collections
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypedDict

from learned_opt_rl import checks
from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically


class Message(TypedDict):
    """A message of a conversation; ``role`` is system, user or assistant."""

    role: str
    content: str


class Reply(NamedTuple):
    """The reply of a provider.

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

        Args:
            messages: The conversation.
            temperature: None where the model takes none.
            seed: The number of the reply in the run, from 0. A run that is resumed
                before a reply is recorded asks with the same seed again.

        Raises:
            ProviderError: There is no reply, or none yet.
        """
        ...


class ProviderError(OSError):
    """No reply came; the message says what to do. Nothing of the run is lost."""


class Scripted:
    """Replies from a list, one per call: for tests and rehearsals.

    The place in the list is the seed, which is the number of the reply in the run, so a
    resumed run gets the replies of an unbroken one. Without a seed, it is the number of
    replies that the conversation already holds.
    """

    def __init__(self, replies: Sequence[str]) -> None:
        self._replies = replies

    def complete(
        self, messages: Sequence[Message], *, seed: int | None = None, **_: Any
    ) -> Reply:
        """Return the next reply of the list."""
        replies, place = self._replies, seed
        if place is None:
            place = sum(message["role"] == "assistant" for message in messages)
        if place >= len(replies):
            raise ProviderError(f"the script has {len(replies)} replies; add one")
        return Reply(replies[place], "scripted")


# A file unchanged for this many seconds is complete: programs that save one write it
# in one go, or at least several times a second.
_SETTLED = 1.0


class Files:
    """Replies from files: a web chat or a person answers, without a key.

    Each prompt is written to ``prompt-HASH.md`` in a folder. The reply is read from
    ``reply-HASH.md`` beside it. The hash is of the conversation and of its place in the
    run (the seed), so a reply answers only its own prompt. A conversation that is held
    again needs another reply, and a run that was killed before it recorded a reply
    finds the file again.

    Args:
        folder: The folder; created if it does not exist.
        wait: Seconds to wait for a reply, and for a second without changes to its file.
            With 0, the file is read as it is. A missing one is an error at once, and
            the run is resumed when the reply is there.
        model: The name to record for whoever answers.
    """

    def __init__(
        self, folder: pathlib.Path, wait: float = 0.0, model: str = "files"
    ) -> None:
        self._folder, self._wait, self._model = folder, wait, model
        self._given: collections.Counter[str] = collections.Counter()

    def complete(
        self, messages: Sequence[Message], *, seed: int | None = None, **_: Any
    ) -> Reply:
        """Return the reply's file; invalid UTF-8 is replaced."""
        asked = f"{fingerprint(messages)} {seed}"
        # Callers without seeds may ask twice, too.
        key = hashlib.sha256(f"{asked} {self._given[asked]}".encode()).hexdigest()[:12]
        prompt = self._folder / f"prompt-{key}.md"
        reply = self._folder / f"reply-{key}.md"
        if not reply.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            parts = [f"# {m['role']}\n\n{m['content']}" for m in messages]
            write_atomically(prompt, ("\n\n".join(parts) + "\n").encode())
        if not _is_complete(reply, self._wait):
            raise ProviderError(
                f"{prompt}: no reply yet. Save the reply as {reply.name} in the "
                "same folder and repeat the command"
            )
        # Nothing is paid, so the tokens are 0.
        text = reply.read_text("utf-8", errors="replace")
        self._given[asked] += 1
        return Reply(text, self._model, 0, 0)


def _is_complete(path: pathlib.Path, wait: float) -> bool:
    """Wait for a file with content that does not change any more."""
    settled = min(_SETTLED, wait)
    started = changed = time.monotonic()
    seen: tuple[int, int] | None = None
    while True:
        # An empty file is one that is still being written.
        filled = path.exists() and path.read_bytes().strip()
        found = path.stat() if filled else None
        state = (found.st_size, found.st_mtime_ns) if found else None
        now = time.monotonic()
        if state != seen:
            seen, changed = state, now
        if seen is not None and now - changed >= settled:
            return True
        if now - started >= wait:
            return False
        time.sleep(settled / 4)


class Replay:
    """Replies of a recorded run, in order; see `recorded`.

    The seed is the number of a reply in the run, so that a resumed run continues with
    the right one. The prompts may differ from the recorded ones.
    """

    def __init__(self, events: Sequence[Mapping[str, Any]]) -> None:
        self._events = events

    def complete(
        self, messages: Sequence[Message], *, seed: int | None = None, **_: Any
    ) -> Reply:
        """Return the recorded reply with this number, from 0."""
        number = seed or 0
        if number >= len(self._events):
            raise ProviderError(
                f"the record ends after {len(self._events)} replies; give the record "
                "of a longer run, or continue this one with another provider"
            )
        return Reply(**self._events[number]["reply"])

    def require(self, number: int, role: str) -> None:
        """Raise ProviderError if the recorded reply is of another role."""
        found = self._events[number].get("role", role)
        if found != role:
            raise ProviderError(
                f"recorded reply {number + 1} has role {found}, but role {role} is "
                "needed; scores differ from the record. Use the recorded settings and "
                "device"
            )


def recorded(path: pathlib.Path) -> list[Mapping[str, Any]]:
    """Return the replies in an ``events.jsonl``; raise ValueError if it is missing."""
    if not path.exists():
        raise ValueError(f"{path} does not exist; give the folder of a recorded run")
    return [row for row in jsonl.read(path) if row.get("event") == "reply"]


def fingerprint(messages: Sequence[Message]) -> str:
    """Return a hash of a conversation, 64 hexadecimal digits."""
    content = json.dumps([[m["role"], m["content"]] for m in messages])
    return hashlib.sha256(content.encode()).hexdigest()


KEY = "OPENAI_API_KEY"

# Raised by answers that are not OpenAI's protocol: not JSON, JSON of another form, or
# nested too deeply. A proxy sends such pages while its endpoint restarts.
_MALFORMED = (ValueError, TypeError, AttributeError, LookupError, RecursionError)

# Seconds before the second try after such an answer; they double each time, up to 8,
# as between the tries that the client makes itself.
_PAUSE = 0.5


class OpenAI:
    """Chat completions of one model.

    Args:
        model: Its name at the endpoint.
        json_mode: Whether to ask the endpoint for a JSON object.
        max_tokens: Bound on a reply; None for the endpoint's.
        timeout: Seconds to wait for a reply.
        retries: Tries after the first, also of an answer that cannot be read. The
            client uses exponential backoff or the endpoint's Retry-After.

    Raises:
        MissingExtraError: The package openai is not installed.
        ProviderError: The environment has no key.
        ValueError: A bound is out of range.
    """

    def __init__(
        self,
        model: str,
        *,
        json_mode: bool = True,
        max_tokens: int | None = None,
        timeout: float = 600.0,
        retries: int = 8,
    ) -> None:
        check_bounds(timeout, retries, max_tokens)
        try:
            import openai
        except ImportError as error:
            raise MissingExtraError(
                f"this provider needs openai ({error}): "
                "pip install 'learned-opt-rl[llm]'"
            ) from error
        self._key = os.environ.get(KEY, "")
        if not self._key:
            raise ProviderError(
                f"{KEY} is not set; set it in the environment (any text for an "
                "endpoint without keys), or use --provider files"
            )
        self._errors: Any = openai.OpenAIError
        self._retries = int(retries)
        self._malformed: Any = (*_MALFORMED, openai.APIResponseValidationError)
        self._client = openai.OpenAI(api_key=self._key, timeout=timeout)
        self._options: dict[str, Any] = {"model": model}
        if json_mode:
            self._options["response_format"] = {"type": "json_object"}
        if max_tokens is not None:
            self._options["max_completion_tokens"] = max_tokens

    def complete(
        self,
        messages: Sequence[Message],
        *,
        temperature: float | None = None,
        seed: int | None = None,
    ) -> Reply:
        """Ask the endpoint; raise `ProviderError` once all tries have failed."""
        given = {"temperature": temperature, "seed": seed}
        options = self._options | {k: v for k, v in given.items() if v is not None}
        chat: Any = [dict(message) for message in messages]
        left = self._retries
        while True:
            client: Any = self._client.with_options(max_retries=left)
            try:
                create = client.chat.completions.with_raw_response.create
                answer = create(messages=chat, **options)
            except self._errors as error:  # the client has retried
                raise self._failure(error) from None
            left -= answer.retries_taken
            try:
                return self._reply(answer.parse())
            except self._malformed as error:
                if left <= 0:
                    form = "the answer is not in OpenAI's format, "
                    raise self._failure(error, form) from None
            time.sleep(min(_PAUSE * 2 ** (self._retries - left), 8.0))
            left -= 1

    def _failure(self, error: Exception, form: str = "") -> ProviderError:
        reason = " ".join(f"{form}{type(error).__name__}: {error}".split())
        return ProviderError(
            f"the endpoint gave no reply ({reason.replace(self._key, '***')[:500]}); "
            "repeat the command to continue"
        )

    def _reply(self, found: Any) -> Reply:
        """Read an answer; raise one of ``_MALFORMED`` if it has another form."""
        choice = found.choices[0]
        text = choice.message.content
        if not isinstance(text, str | None):
            raise TypeError("the content of the message is not a text")
        model = getattr(found, "model", None)
        usage = getattr(found, "usage", None)
        return Reply(
            text or "",
            model if isinstance(model, str) else self._options["model"],
            _count(getattr(usage, "prompt_tokens", None)),
            _count(getattr(usage, "completion_tokens", None)),
            cut=choice.finish_reason == "length",
        )


def check_bounds(timeout: float, retries: int, max_tokens: int | None) -> None:
    """Raise ValueError if an argument of `OpenAI` is out of range."""
    checks.finite("timeout", timeout, "give seconds", above=0)
    if not checks.finite("retries", retries, "give 0 or more", least=0).is_integer():
        raise ValueError(f"retries={retries!r} must be a whole number; give 0 or more")
    if max_tokens is not None:
        checks.positive_int("max_tokens", max_tokens)


def _count(tokens: Any) -> int | None:
    """Return a number of tokens; None if it is not a credible one."""
    whole = isinstance(tokens, int) and not isinstance(tokens, bool)
    return tokens if whole and 0 <= tokens < 2**53 else None
