"""Read settings from flags, environment, YAML file and secret files; judge names, not values.

Each source becomes a `Layer`: what was given, where each value came from, and the problems of
reading. Whether a value is allowed is decided later, once, by the model.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final

import yaml

from proxy.configuration.flags import FLAGS
from proxy.configuration.model import ANY_TABLE, SECTIONS, SETTINGS, Path, dotted, general

ENVIRONMENT_PREFIX: Final = "DYNASIDE__"
SECRETS_DIR_VARIABLE: Final = "DYNASIDE_SECRETS_DIR"
SECRETS_DIR_DEFAULT: Final = FilePath("/run/secrets/dynaside")
REGION_VARIABLES: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
REGION: Final = ("upstream", "region")

_ROOTS: Final = frozenset(path[0] for path in (*SETTINGS, *SECTIONS))


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was given, not yet judged, and where it came from in words."""

    value: Any = field(repr=False)  # may be a password
    source: str


@dataclass(slots=True)
class Layer:
    """What one source gave, and the problems found in reading it."""

    values: dict[Path, Given] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def give(self, path: Path, value: Any, locate: Callable[[Path], str]) -> None:
        """Take a value, or each value of a section, refusing names that do not exist.

        Args:
            path: where the value belongs.
            value: a scalar for a setting, a mapping or None for a section.
            locate: says in words where the value at a path came from.
        """
        kind = general(path)
        if kind in SETTINGS:
            self.values[path] = Given(value, locate(path))
        elif path and kind not in SECTIONS:
            self.problems.append(f"{dotted(path)}: {_unknown(path)} ({locate(path)})")
        elif isinstance(value, Mapping):
            self._give_section(path, value, locate)
        elif value is not None:
            self.problems.append(f"{dotted(path)}: must be a mapping ({locate(path)})")

    def _give_section(
        self, path: Path, section: Mapping[Any, Any], locate: Callable[[Path], str]
    ) -> None:
        if general(path) == ("tables", ANY_TABLE) and not section:
            # A table named without rules is still a configured table.
            self.values[path] = Given({}, locate(path))
        for name, value in section.items():
            if isinstance(name, str):
                self.give((*path, name), value, locate)
            else:
                where = locate((*path, str(name)))
                self.problems.append(f"{dotted(path)}: name {name} needs quotes ({where})")


def from_flags(flags: Mapping[str, object]) -> Layer:
    """Read flags given as dotted names; None means that the flag was not given."""
    layer = Layer()
    for name, value in flags.items():
        source = f"flag {FLAGS[name].name if name in FLAGS else name}"
        if value is not None:
            layer.give(_path_of(name, "."), value, _always(source))
    return layer


def from_environment(environ: Mapping[str, str]) -> Layer:
    """Read `DYNASIDE__SECTION__NAME` variables; an empty one counts as not set.

    A section as a whole, such as `DYNASIDE__TABLES`, is read as YAML.
    """
    layer = Layer()
    for name, text in sorted(environ.items()):
        source = f"environment {name}"
        if name.startswith(ENVIRONMENT_PREFIX) and text:
            path = _path_of(name.removeprefix(ENVIRONMENT_PREFIX), "__")
            _give_text(layer, path, text, source)
        elif (meant := _meant_variable(name)) is not None:
            layer.problems.append(f"{name}: is not read; did you mean {meant}? ({source})")
    return layer


def from_aws_environment(environ: Mapping[str, str]) -> Layer:
    """Read the region that AWS's own variables name."""
    layer = Layer()
    for name in REGION_VARIABLES:
        if region := environ.get(name):
            layer.values.setdefault(REGION, Given(region, f"environment {name}"))
    return layer


def from_file(path: FilePath) -> Layer:
    """Read a YAML file; it is refused whole when it is no YAML or names a setting twice."""
    layer = Layer()
    try:
        content = _OneOfEachLoader(path.read_bytes()).get_single_data()
    except OSError as error:
        layer.problems.append(f"{path}: cannot be read: {error.strerror}")
    except yaml.MarkedYAMLError as error:
        # Not the whole error: it quotes the file, which may hold a password.
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        layer.problems.append(f"{path}: is not YAML: {error.problem} (line {line})")
    except yaml.YAMLError:
        layer.problems.append(f"{path}: is not YAML: it is not plain text")
    else:
        if content is None or isinstance(content, Mapping):
            layer.give((), content, lambda at: f"{path}: {dotted(at)}")
        else:
            layer.problems.append(f"{path}: must hold a mapping of sections")
    return layer


def from_secrets(environ: Mapping[str, str]) -> Layer:
    """Read one file per setting, `store__password`, from the secrets directory.

    Files that do not start with a section's name are somebody else's and left alone. The
    default directory may be missing, a directory named by `DYNASIDE_SECRETS_DIR` may not.
    """
    layer = Layer()
    named = environ.get(SECRETS_DIR_VARIABLE)
    directory = FilePath(named) if named else SECRETS_DIR_DEFAULT
    if not directory.is_dir():
        if named:
            source = f"environment {SECRETS_DIR_VARIABLE}"
            layer.problems.append(f"secrets: {directory} is not a directory ({source})")
        return layer
    for file in sorted(directory.iterdir()):
        path = _path_of(file.name, "__")
        if path[0] not in _ROOTS:
            continue
        try:
            _give_text(layer, path, file.read_text().rstrip("\r\n"), f"secret file {file}")
        except (OSError, UnicodeDecodeError) as error:
            why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
            layer.problems.append(f"{dotted(path)}: cannot be read: {why} (secret file {file})")
    return layer


class _OneOfEachLoader(yaml.SafeLoader):
    """SafeLoader that refuses a name given twice; YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - PyYAML's signature
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise yaml.MarkedYAMLError(
                    problem=f"{name} is given twice", problem_mark=node.start_mark
                )
        return super().construct_mapping(node, deep)


def _always(source: str) -> Callable[[Path], str]:
    return lambda _: source


def _give_text(layer: Layer, path: Path, text: str, source: str) -> None:
    """Give a text to a setting, or to a section as the YAML it holds."""
    if general(path) not in SECTIONS:
        layer.give(path, text, _always(source))
        return
    try:
        section = yaml.safe_load(text)
    except yaml.YAMLError:
        layer.problems.append(f"{dotted(path)}: is not a YAML mapping ({source})")
    else:
        layer.give(path, section, _always(source))


def _path_of(name: str, separator: str) -> Path:
    """Split a flat name into a path; a table's name keeps its case and its separators."""
    root, _, rest = name.partition(separator)
    if root.lower() == "tables" and rest:
        table, _, rule = rest.rpartition(separator)
        return ("tables", table, rule.lower()) if table else ("tables", rest)
    return tuple(part.lower() for part in name.split(separator))


def _meant_variable(name: str) -> str | None:
    """Return the variable that was meant when only the prefix's second `_` is missing."""
    prefix = ENVIRONMENT_PREFIX.removesuffix("_")
    rest = name.removeprefix(prefix)
    if name == rest or rest.startswith("_") or "__" not in rest:
        return None
    return ENVIRONMENT_PREFIX + rest if general(_path_of(rest, "__")) in SETTINGS else None


def _unknown(path: Path) -> str:
    """Say that a name is unknown and which one may be meant."""
    meant = _closest(path, (*SETTINGS, *SECTIONS))
    return "is not a setting" + (f"; did you mean {meant}?" if meant else "")


def _closest(path: Path, known: Iterable[Path]) -> str | None:
    table = path[1] if general(path) != path else ANY_TABLE
    names = [dotted(candidate).replace(ANY_TABLE, table) for candidate in known]
    # A right name in a wrong section comes first, then a similar name.
    same_end = [name for name in names if name.rpartition(".")[2] == path[-1]]
    close = difflib.get_close_matches(dotted(path), same_end or names, n=1, cutoff=0.4)
    return close[0] if close else None
