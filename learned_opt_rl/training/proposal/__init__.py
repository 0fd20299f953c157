"""Language models propose algorithms, and nothing that they write is executed.

A reply becomes an expression (`learned_opt_rl.expressions`) or a line that says what is
wrong with it. Expressions are scored in a process of their own, with limits of time and
memory. What was found is refined: its constants are tuned, and its core is kept.
"""

from learned_opt_rl.training.proposal.conversation import Conversation as Conversation
from learned_opt_rl.training.proposal.conversation import (
    ConversationConfig as ConversationConfig,
)
from learned_opt_rl.training.proposal.discovery import Discovery as Discovery
from learned_opt_rl.training.proposal.discovery import (
    DiscoveryConfig as DiscoveryConfig,
)
from learned_opt_rl.training.proposal.journal import Limits as Limits
from learned_opt_rl.training.proposal.providers import Files as Files
from learned_opt_rl.training.proposal.providers import Provider as Provider
from learned_opt_rl.training.proposal.providers import ProviderError as ProviderError
from learned_opt_rl.training.proposal.providers import Reply as Reply
from learned_opt_rl.training.proposal.providers import Scripted as Scripted
from learned_opt_rl.training.proposal.refinement import Refinement as Refinement
from learned_opt_rl.training.proposal.refinement import (
    RefinementConfig as RefinementConfig,
)
from learned_opt_rl.training.proposal.scoring.evaluation import (
    EvaluationConfig as EvaluationConfig,
)
