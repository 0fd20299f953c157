"""The command line that does a run once more."""

import functools
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

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
        ([*_settings(fields, base)], name)
        for name, base in _presets().items()
        if base["algorithm"] == fields["algorithm"]
    ]
    settings, name = min(found, key=lambda pair: len(pair[0]))
    return _line("es", "--preset", name, *_set(settings))


@functools.cache
def _presets() -> dict[str, dict[str, Any]]:
    return {name: preset(name).as_json() for name in PRESETS}


def _line(verb: str, *words: str) -> str:
    settings = words.index("--set") if "--set" in words else len(words)
    words = (*words[:settings], "--out", "FOLDER", *words[settings:])
    return shlex.join(["learned-opt-rl", "train", verb, *words])


def _set(settings: list[str]) -> list[str]:
    return ["--set", *settings] if settings else []


def _settings(fields: Mapping[str, Any], base: Mapping[str, Any]) -> Iterator[str]:
    base = {**IMPLIED, **base}
    # The fields keep their order; those that are implied come last.
    for name, value in {**fields, **IMPLIED, **fields}.items():
        if name in ("agent", "architecture"):
            parts = {k: v for k, v in value.items() if base[name].get(k, ...) != v}
            yield from (f"{name}.{key}={_word(part)}" for key, part in parts.items())
        elif name == "horizons" and base[name] != value:
            yield "horizons=" + ",".join(f"{first}:{steps}" for first, steps in value)
        elif name == "environments" and base[name] != value:
            yield "environments=" + ",".join(value)
        elif base.get(name, ...) != value:
            yield f"{name}={_word(value)}"


def _distillation(fields: Mapping[str, Any]) -> Iterator[str]:
    sizes = ",".join(f"{k}={_word(v)}" for k, v in fields["architecture"].items())
    yield from ("--teacher", fields["teacher"])
    yield from ("--student", f"{fields['algorithm']}:{sizes}")
    if fields.get("environments"):
        yield from ("--environments", *fields["environments"])
    told = ("teacher", "algorithm", "architecture", "environments", "agent")
    plain = {k: v for k, v in fields.items() if k not in told and v is not None}
    agent = {f"agent.{k}": v for k, v in (fields.get("agent") or {}).items()}
    yield from _set([f"{k}={_word(v)}" for k, v in (plain | agent).items()])


def _word(value: Any) -> str:
    if isinstance(value, list):
        return "x".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)
