"""The provider for any endpoint that speaks OpenAI's protocol.

The key and the address come from the environment variables ``OPENAI_API_KEY`` and
``OPENAI_BASE_URL``, and go nowhere else: no log, no card, no child process.
"""

import os
from collections.abc import Sequence
from typing import Any

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.training.proposal.providers import Message, ProviderError, Reply

KEY = "OPENAI_API_KEY"


class OpenAI:
    """Chat completions of one model.

    Args:
        model: Its name at the endpoint.
        json_mode: Whether to ask the endpoint for a JSON object.
        max_tokens: Bound on a reply; None for the endpoint's.
        timeout: Seconds to wait for a reply.
        retries: Tries after the first. The client waits longer each time, or as long
            as the endpoint asks.

    Raises:
        MissingExtraError: The package openai is not installed.
        ProviderError: The environment has no key.
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
        try:
            found: Any = self._create(messages=chat, **options)
            choice = found.choices[0]
            text, cut = choice.message.content or "", choice.finish_reason == "length"
            if not isinstance(text, str):
                raise TypeError("the content of the message is not a text")
        # All but the first: the endpoint's answer is not of the protocol.
        except (self._errors, ValueError, AttributeError, IndexError, TypeError) as e:
            reason = f"{type(e).__name__}: {e}".replace(self._key, "***")[:500]
            raise ProviderError(
                f"the endpoint gave no reply ({reason}); repeat the command to continue"
            ) from None
        model = getattr(found, "model", None) or self._options["model"]
        return Reply(text, str(model), *_tokens(found), cut=cut)


def _tokens(found: Any) -> tuple[int | None, int | None]:
    """Return the tokens of prompt and reply, as far as the endpoint states them."""
    usage = getattr(found, "usage", None)
    sent = getattr(usage, "prompt_tokens", None)
    got = getattr(usage, "completion_tokens", None)
    return (
        sent if isinstance(sent, int) else None,
        got if isinstance(got, int) else None,
    )
