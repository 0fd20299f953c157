"""How rules are written: ``artifact:NAME@FEATURE``."""

PREFIXES = ("artifact", "open")
"""Before a colon, what says that a learned rule is meant."""


def artifact_name(rule: str) -> str:
    """The artifact that a rule would be, without prefix and missing feature."""
    prefix, colon, rest = rule.partition("@")[0].partition(":")
    return rest if colon and prefix in PREFIXES else prefix + colon + rest
