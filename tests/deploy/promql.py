"""Finds metric names and selectors in PromQL text, without a parser: enough for our own files."""

from __future__ import annotations

import re

from tests.deploy.conftest import Exposed

# Recorded series have colons around the metric's name; those are not exposed.
NAME = re.compile(r"(?<![:\w])((?:dynaside|process)_\w+)(?![:\w])")
SELECTOR = re.compile(r"(?<![:\w])(dynaside_\w+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
# What Prometheus adds to every series of a target.
TARGET_LABELS = {"job", "instance", "namespace", "pod", "container"}


def unknown_names(text: str, exposed: Exposed) -> set[str]:
    """Return the metric names in `text` that the proxy does not expose."""
    return set(NAME.findall(text)) - set(exposed)


def unknown_selectors(text: str, exposed: Exposed) -> set[str]:
    """Return the matchers in `text` by a label, or a label's member, that the metric lacks."""
    unknown = set()
    for name, matchers in SELECTOR.findall(text):
        for label, wanted in MATCHER.findall(matchers):
            if label in TARGET_LABELS:
                continue
            members = exposed[name].get(label)
            if members is None or not (wanted.startswith("$") or set(wanted.split("|")) <= members):
                unknown.add(f"{name}: {label}={wanted}")
    return unknown
