"""Build the one frozen `Settings` value, or say everything that is wrong with it.

Precedence: flags > environment > YAML file > secret files > AWS's region variables > defaults.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.configuration.conflicts import Conflict, conflicts, notes
from proxy.configuration.model import SETTINGS, Path, Settings, dotted, general
from proxy.configuration.rendering import allowed_text, settings_table
from proxy.configuration.sources import (
    Given,
    from_aws_environment,
    from_environment,
    from_file,
    from_flags,
    from_secrets,
)
from proxy.configuration.tables import LEVEL_IMPLIES, TableRules, explicit
from proxy.core.errors import SettingsInvalid
from proxy.core.values import Level

__all__ = [
    "LoadedSettings",
    "Settings",
    "load_settings",
    "notes",
    "read_settings",
    "setting_names",
    "settings_table",
]

_SHOWN_CHARACTERS_MAX = 60
_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Checked settings together with where each value came from."""

    settings: Settings
    given: Mapping[Path, Given]

    def source_of(self, path: Path) -> str:
        """Say where the value in effect came from: a source, another section, a level, default."""
        source = _source_of(path, self.given)
        if source != _DEFAULT or path[0] not in {"defaults", "tables"}:
            return source
        within = path[1:] if path[0] == "defaults" else path[2:]
        if within[:1] == ("queries",):
            return _source_of(("defaults", *within), self.given)
        is_rule = path[-1] in TableRules.model_fields
        return self._source_of_rule(path[-1], path) if is_rule else source

    def _source_of_rule(self, rule: str, path: Path) -> str:
        policy = (
            self.settings.default_policy
            if path[0] == "defaults"
            else self.settings.policy_of(path[1])
        )
        inherited = rule in explicit(self.settings.defaults)
        if rule in LEVEL_IMPLIES[policy.level] and (policy.level is Level.STRICT or not inherited):
            return f"level {policy.level}"
        return _source_of(("defaults", rule), self.given)


def load_settings(
    *,
    flags: Mapping[str, object] | None = None,
    config_path: FilePath | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Read all sources once and return the checked settings; see `read_settings`."""
    return read_settings(flags=flags, config_path=config_path, environ=environ).settings


def read_settings(
    *,
    flags: Mapping[str, object] | None = None,
    config_path: FilePath | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadedSettings:
    """Read all sources once and return the checked settings with the source of each value.

    Args:
        flags: dotted names to values, `{"store.url": "redis://…"}`; None counts as not given.
        config_path: the YAML file, if there is one.
        environ: the environment; this process's own when None.

    Raises:
        SettingsInvalid: with every problem of every source, one line each.
    """
    environ = os.environ if environ is None else environ
    layers = [from_aws_environment(environ), from_secrets(environ)]
    if config_path is not None:
        layers.append(from_file(config_path))
    layers += [from_environment(environ), from_flags(flags or {})]
    given: dict[Path, Given] = {}
    for layer in layers:
        given |= layer.values
    problems = [problem for layer in layers for problem in layer.problems]
    settings, invalid = _validate(given)
    problems += invalid
    if problems:
        raise SettingsInvalid(problems)
    return LoadedSettings(settings, given)


def setting_names() -> list[str]:
    """Return the dotted name of every setting outside `tables`, and `tables` itself."""
    return [dotted(path) for path in SETTINGS if path[0] != "tables"] + ["tables"]


def _validate(given: Mapping[Path, Given]) -> tuple[Settings, list[str]]:
    """Judge all values and return every problem; the settings count only if there is none."""
    try:
        settings, problems, wrong = Settings.model_validate(_nested(given)), [], set()
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems = [_problem(detail, given) for detail in details]
        wrong = {_part_to_drop(detail) for detail in details}
        # Judge the rest without them, so that contradictions show in the same run.
        given = {path: value for path, value in given.items() if not _is_under(path, wrong)}
        settings = Settings.model_validate(_nested(given))
    problems += [
        _contradiction(conflict, given)
        for conflict in conflicts(settings)
        if not any(_is_under(path, wrong) for path in conflict.paths)
    ]
    return settings, problems


def _nested(given: Mapping[Path, Given]) -> dict[str, Any]:
    """Turn paths into the nested mappings that the model takes."""
    root: dict[str, Any] = {}
    for path, value in given.items():
        section = root
        for name in path[:-1]:
            section = section.setdefault(name, {})
        if value.value == {}:
            section.setdefault(path[-1], {})
        else:
            section[path[-1]] = value.value
    return root


def _problem(detail: ErrorDetails, given: Mapping[Path, Given]) -> str:
    """Say what is wrong with one value, what is allowed and where it came from; no secrets."""
    path = tuple(str(part) for part in detail["loc"] if part != "[key]")
    field = SETTINGS.get(general(path))
    if "error" in detail.get("ctx", {}):
        why = str(detail["ctx"]["error"])
    elif detail["type"] == "missing":
        return f"{dotted(path)}: is missing ({_source_of(path[:-1], given)})"
    elif field is None:
        why = "is not a table name: 3 to 255 of A-Z a-z 0-9 _ . -"
    elif path[0] == "store" and field.annotation not in {int, float}:
        why = f"must be {allowed_text(field)}"  # it may hold a password: not shown
    else:
        shown = repr(detail["input"])[:_SHOWN_CHARACTERS_MAX]
        why = f"{shown} is not {allowed_text(field)}"
    return f"{dotted(path)}: {why} ({_source_of(path, given)})"


def _part_to_drop(detail: ErrorDetails) -> Path:
    """Return the smallest part without which the rest can be judged: a rule, a whole table."""
    path = tuple(str(part) for part in detail["loc"] if part != "[key]")
    return path[:3] if path[0] == "tables" else path


def _contradiction(conflict: Conflict, given: Mapping[Path, Given]) -> str:
    sources = {path: _source_of(path, given) for path in conflict.paths}
    where = "; ".join(
        f"{dotted(path)} by {source}" if source == _DEFAULT else source
        for path, source in sources.items()
    )
    return f"{dotted(conflict.paths[0])}: {conflict.why} ({where})"


def _is_under(path: Path, roots: set[Path]) -> bool:
    return any(path[: len(root)] == root for root in roots)


def _source_of(path: Path, given: Mapping[Path, Given]) -> str:
    """Return the source of a value, or of the first value below its path."""
    if path in given:
        return given[path].source
    below = (value.source for at, value in given.items() if at[: len(path)] == path)
    return next(below, _DEFAULT)
