"""The provider for any endpoint that speaks OpenAI's protocol.

The key and the address come from the environment variables ``OPENAI_API_KEY`` and
``OPENAI_BASE_URL``, and go nowhere else: no log, no card, no child process.
"""

import os
import time
from collections.abc import Sequence
from typing import Any

from learned_opt_rl import checks
from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.training.proposal.providers import Message, ProviderError, Reply

KEY = "OPENAI_API_KEY"

# What reading an answer raises that is not of the protocol: not JSON, JSON of another
# form, or nested too deeply. A proxy sends such pages while its endpoint restarts.
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
        retries: Tries after the first. The client waits longer each time, or as long
            as the endpoint asks. An answer that cannot be read is also retried.

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
        checks.finite("timeout", timeout, "give seconds", above=0)
        checks.finite("retries", retries, "give 0 or more", least=0)
        if max_tokens is not None:
            checks.positive_int("max_tokens", max_tokens)
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
        client = openai.OpenAI(api_key=self._key, timeout=timeout, max_retries=retries)
        self._create: Any = client.chat.completions.create
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
        failed: Exception | None = None
        for tried in range(self._retries + 1):
            try:
                return self._reply(self._create(messages=chat, **options))
            except self._malformed as error:
                failed = error
                if tried < self._retries:
                    time.sleep(min(_PAUSE * 2**tried, 8.0))
            # The client has retried these.
            except self._errors as error:
                failed = error
                break
        kind = type(failed).__name__
        if isinstance(failed, self._malformed):
            kind = f"an answer that is not of OpenAI's protocol, {kind}"
        reason = " ".join(f"{kind}: {failed}".split())
        raise ProviderError(
            f"the endpoint gave no reply ({reason.replace(self._key, '***')[:500]}); "
            "repeat the command to continue"
        )

    def _reply(self, found: Any) -> Reply:
        """Read an answer; raise one of ``_MALFORMED`` if it is not of the protocol."""
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


def _count(tokens: Any) -> int | None:
    """Return a number of tokens; None if it is not a credible one."""
    whole = isinstance(tokens, int) and not isinstance(tokens, bool)
    return tokens if whole and 0 <= tokens < 2**53 else None
