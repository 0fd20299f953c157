"""The command line that does a run once more."""

import functools
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from learned_opt_rl.rundir import settings
from learned_opt_rl.training.evolution import PRESETS, preset
from learned_opt_rl.training.evolution.config import IMPLIED


def command(kind: str | None, fields: Mapping[str, Any]) -> str:
    """What makes a run again.

    Args:
        kind: ``"distillation"``, or else of evolution.
        fields: Its configuration, as JSON has it.

    Returns:
        The command, with as few settings as a preset leaves.

    Example:
        >>> from learned_opt_rl.training.evolution import preset
        >>> fields = preset("lpo-minatar", sigma=0.1, horizons=((0, 9000),)).as_json()
        >>> command(None, fields)
        'learned-opt-rl train es --preset lpo-minatar --out FOLDER --set
          horizons=0:9000 sigma=0.1'
    """
    if kind == "distillation":
        return _line("distill", *_distillation(fields))
    found = [
        (_settings(fields, base), name)
        for name, base in _presets().items()
        if base["algorithm"] == fields["algorithm"]
    ]
    fewest, name = min(found, key=lambda pair: len(pair[0]))
    return _line("es", "--preset", name, *_set(fewest))


@functools.cache
def _presets() -> dict[str, dict[str, Any]]:
    return {name: preset(name).as_json() for name in PRESETS}


def _line(verb: str, *words: str) -> str:
    end = words.index("--set") if "--set" in words else len(words)
    words = (*words[:end], "--out", "FOLDER", *words[end:])
    return shlex.join(["learned-opt-rl", "train", verb, *words])


def _set(texts: list[str]) -> list[str]:
    return ["--set", *texts] if texts else []


def _settings(fields: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """Return the settings that give the fields from those of a preset."""
    base = {**IMPLIED, **base}
    # The fields keep their order; those that are implied come last.
    return settings.format(_changes({**fields, **IMPLIED, **fields}, base))


def _changes(fields: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _changes(value, base[name]) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if base.get(name, ...) != value
    }


def _distillation(fields: Mapping[str, Any]) -> Iterator[str]:
    sizes = ",".join(settings.format(fields["architecture"]))
    yield from ("--teacher", fields["teacher"])
    yield from ("--student", f"{fields['algorithm']}:{sizes}")
    if fields.get("environments"):
        yield from ("--environments", *fields["environments"])
    given = ("teacher", "algorithm", "architecture", "environments")
    rest = {k: v for k, v in fields.items() if k not in given and v is not None}
    yield from _set(settings.format(rest))
