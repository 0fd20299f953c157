"""The largest cost of a search, which ``--dry-run`` prints."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from learned_opt_rl.training.proposal import EvaluationConfig, Limits

# Average characters per token of English or code.
_CHARACTERS = 4
# Tokens of scores and errors that each turn adds: results take about 150 characters
# per environment.
_FEEDBACK = 250


class Conversations(NamedTuple):
    """Conversations of one kind that a search holds at most.

    Attributes:
        number: How many.
        turns: Replies in each.
        start: Characters of the first prompt without code.
        codes: Texts in the first prompt that are as long as a reply.
        added: Such texts that each turn adds.
        kept: Latest turns that a prompt repeats; None for all.
    """

    number: int
    turns: int
    start: int
    codes: int = 0
    added: int = 1
    kept: int | None = None

    def tokens(self, longest: int) -> tuple[int, int]:
        """Return the tokens of prompts and replies, for the tokens of a reply."""
        first = self.start // _CHARACTERS + self.codes * longest
        kept = self.turns if self.kept is None else self.kept
        repeated = sum(min(turn, kept) for turn in range(self.turns))
        sent = self.turns * first + repeated * (self.added * longest + _FEEDBACK)
        return self.number * sent, self.number * self.turns * longest


def runs(config: "EvaluationConfig", expressions: int, replies: int = 0) -> str:
    """Return the largest number of replies, runs and environment steps."""
    count = expressions * len(config.environments) * config.seeds
    asked = f"{replies:,} replies and " if replies else ""
    return (
        f"at most {asked}{count:,} runs of {config.steps:,.0f} environment steps: "
        f"{count * config.steps:,.0f} steps"
    )


def dollars(
    held: Sequence[Conversations], limits: "Limits", model: str, max_tokens: int | None
) -> str:
    """Return the cost of the replies; empty if no prices and no model are given."""
    from learned_opt_rl.training.proposal import Reply
    from learned_opt_rl.training.proposal.reply import LONGEST

    # Longer replies are refused, but still paid.
    longest = max_tokens or LONGEST // _CHARACTERS
    counts = [one.tokens(longest) for one in held]
    sent, got = sum(c[0] for c in counts), sum(c[1] for c in counts)
    price = limits.price(Reply("", model, sent, got))
    if price is None:
        return f"{model}: unknown price: pass --prices PROMPT REPLY" if model else ""
    return (
        f"the replies cost about {price:,.2f} dollars, if each has {longest:,} tokens "
        f"(--max-tokens) and a token has {_CHARACTERS} characters: {sent:,} tokens of "
        f"prompts and {got:,} of replies"
    )
