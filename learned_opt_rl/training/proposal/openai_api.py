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
