"""Promotion: give weights a name, unless they are worse than its current weights.

The new weights, the current version and baselines run on the same seeds. The rows go
into a results file. The card, the results and the run's configuration and log, of an
evolution also its state, become an artifact.
"""

from learned_opt_rl.training.promotion.origin import next_seed as next_seed
from learned_opt_rl.training.promotion.promote import Outcome as Outcome
from learned_opt_rl.training.promotion.promote import Promotion as Promotion
from learned_opt_rl.training.promotion.promote import agent_of_run as agent_of_run
from learned_opt_rl.training.promotion.promote import promote as promote
from learned_opt_rl.training.promotion.promote import trained_in as trained_in
from learned_opt_rl.training.promotion.verdict import Verdict as Verdict
from learned_opt_rl.training.promotion.verdict import WorseError as WorseError
