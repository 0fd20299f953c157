"""The contract of a learned optimizer as a suite of checks, for anybody's tests.

``check_artifact`` takes an artifact of any origin, or any optax transformation, and
raises one ``ConformanceError`` that lists every promise it breaks. It needs no pytest;
with pytest, parametrize over ``CHECKS`` to get one case per promise.
"""

from learned_opt_rl.testing._candidate import COMMON_OPTIONS, Candidate, Factory
from learned_opt_rl.testing._expect import ConformanceError
from learned_opt_rl.testing._suite import (
    CHECKS,
    CHECKS_OF,
    DRIFT_CHECKS,
    RULE_CHECKS,
    UPDATE_RULE_CHECKS,
    CheckResult,
    check_artifact,
    check_rule,
    conformance,
)
from learned_opt_rl.testing._transforms import MakeRule

__all__ = [
    "CHECKS",
    "CHECKS_OF",
    "COMMON_OPTIONS",
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
__dir__ = __all__.copy
