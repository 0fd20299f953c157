"""The contract of a learned optimiser as a suite of checks, for anybody's tests.

``check_artifact`` takes an artifact of any origin, or any optax transformation, and
raises one ``ConformanceError`` that lists every promise it breaks. It needs no pytest;
with pytest, parametrise over ``CHECKS`` to get one case per promise.
"""

from learned_opt_rl.testing._candidate import Candidate as Candidate
from learned_opt_rl.testing._candidate import Factory as Factory
from learned_opt_rl.testing._checks import CHECKS as CHECKS
from learned_opt_rl.testing._checks import CHECKS_OF as CHECKS_OF
from learned_opt_rl.testing._checks import DRIFT_CHECKS as DRIFT_CHECKS
from learned_opt_rl.testing._checks import RULE_CHECKS as RULE_CHECKS
from learned_opt_rl.testing._checks import UPDATE_RULE_CHECKS as UPDATE_RULE_CHECKS
from learned_opt_rl.testing._expect import ConformanceError as ConformanceError
from learned_opt_rl.testing._rule import MakeRule as MakeRule
from learned_opt_rl.testing._suite import CheckResult as CheckResult
from learned_opt_rl.testing._suite import check_artifact as check_artifact
from learned_opt_rl.testing._suite import check_rule as check_rule
from learned_opt_rl.testing._suite import conformance as conformance

__all__ = [
    "CHECKS",
    "CHECKS_OF",
    "Candidate",
    "CheckResult",
    "ConformanceError",
    "DRIFT_CHECKS",
    "Factory",
    "MakeRule",
    "RULE_CHECKS",
    "UPDATE_RULE_CHECKS",
    "check_artifact",
    "check_rule",
    "conformance",
]


def __dir__() -> list[str]:
    return __all__
