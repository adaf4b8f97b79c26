"""Show settings to people and editors: README's table, YAML with comments, the JSON schema."""

from __future__ import annotations

import dataclasses
import enum
import json
import textwrap
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

from pydantic.fields import FieldInfo

from proxy.configuration.checks import MASK, masked_url
from proxy.configuration.model import SECTIONS, SETTINGS, Path, Settings, dotted, general

_WIDTH: Final = 96
_DEFAULT_HEAD: Final = """\
# yaml-language-server: $schema=schema.json
# Every setting of dynaside with its default. This file is made by
# `python -m proxy.configuration yaml`; a setting you do not change can be left out of yours.
#
# Precedence: flags > environment > this file > secret files > defaults. In the environment,
# store.timeout_s is DYNASIDE__STORE__TIMEOUT_S; as a secret file, store__timeout_s in
# /run/secrets/dynaside (or DYNASIDE_SECRETS_DIR). Names end in their unit: _s are seconds.
"""


def allowed_text(field: FieldInfo) -> str:
    """Say in words which values a setting may have, as the end of "… is not …"."""
    annotation = field.annotation
    if annotation is bool:
        return "true or false"
    if annotation == bool | None:
        return "null, true or false"
    if annotation in {int, float, int | None}:
        low, high = _bound(field, "ge"), _bound(field, "le")
        kind = "a number" if annotation is float else "a whole number"
        return f"{'' if annotation in {int, float} else 'null or '}{kind} from {low} to {high}"
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "one of " + ", ".join(str(member) for member in annotation)
    if typing.get_origin(annotation) is Literal:
        return "one of " + ", ".join(typing.get_args(annotation))
    pattern = _bound(field, "pattern")
    return "text" if pattern is None else f"text like {pattern}"


def settings_table() -> str:
    """Return README's table of all settings, in Markdown."""
    rows = ["| Setting | Default | Meaning |", "| --- | --- | --- |"]
    fixed = {path: field for path, field in SETTINGS.items() if path[0] != "tables"}
    for path, field in {**fixed, ("tables",): SECTIONS["tables",]}.items():
        meaning = (field.description or "").replace("|", "\\|")
        default = json.dumps(field.get_default(call_default_factory=False))
        rows.append(f"| `{dotted(path)}` | `{default}` | {meaning} |")
    return "\n".join(rows) + "\n"


def default_yaml() -> str:
    """Return config/default.yaml: every setting with its default, bounds, meaning and reason."""
    lines = _section_lines(_shown(Settings()), (), _describe)
    return _DEFAULT_HEAD + "\n".join(lines) + "\n"


def effective_yaml(settings: Settings, source_of: Callable[[Path], str]) -> str:
    """Return the settings in effect as YAML, secrets masked, each with its source as comment."""
    lines = list(_section_lines(_shown(settings), (), lambda path: ([], source_of(path))))[1:]
    return "\n".join(lines) + "\n"


def schema_json() -> str:
    """Return config/schema.json, by which editors check and complete a configuration file."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(schema | Settings.model_json_schema(), indent=2) + "\n"


def _shown(settings: Settings) -> dict[str, Any]:
    """Return the settings in effect as plain mappings: rules resolved, secrets masked."""
    shown = settings.model_dump()
    if settings.store.url is not None:
        shown["store"]["url"] = masked_url(settings.store.url)
    if settings.store.password is not None:
        shown["store"]["password"] = MASK
    if settings.store.sentinel.password is not None:
        shown["store"]["sentinel"]["password"] = MASK
    shown["defaults"] = dataclasses.asdict(settings.default_policy)
    for name, table in shown["tables"].items():
        key_schema = {"key_schema": table["key_schema"]} if table["key_schema"] else {}
        shown["tables"][name] = dataclasses.asdict(settings.policy_of(name)) | key_schema
    return shown


def _section_lines(
    shown: Mapping[str, Any], path: Path, comments: Callable[[Path], tuple[list[str], str]]
) -> Iterator[str]:
    """Yield the lines of one section.

    Args:
        shown: names and values; a value is written as JSON, which is YAML too.
        path: where the section stands.
        comments: gives the lines to write above a name and the comment beside its value.
    """
    indent = "  " * len(path)
    for name, value in shown.items():
        at = (*path, name)
        above, beside = comments(at)
        if not path:
            yield ""
        yield from (f"{indent}# {line}" for line in above)
        # Quoted, because YAML reads a table named 2024 or on as something else than text.
        label = json.dumps(name) if path == ("tables",) else name
        if general(at) in SECTIONS and value and name != "key_schema":
            yield f"{indent}{label}:"
            yield from _section_lines(value, at, comments)
        else:
            yield f"{indent}{label}: {json.dumps(value)}" + (f"  # {beside}" if beside else "")


def _describe(path: Path) -> tuple[list[str], str]:
    """Return a setting's description, wrapped, as the comment above it."""
    field = SETTINGS.get(path) or SECTIONS[path]
    text = field.description or ""
    if path in SETTINGS and (allowed := allowed_text(field)).startswith(
        ("a ", "null or a ", "one of")
    ):
        text += f" Allowed: {allowed}."
    return textwrap.wrap(text, _WIDTH - 2 * len(path)), ""


def _bound(field: FieldInfo, name: str) -> Any:
    """Return a constraint of a field (`ge`, `le`, `pattern`), or None."""
    found = (getattr(constraint, name, None) for constraint in field.metadata)
    return next((bound for bound in found if bound is not None), None)
