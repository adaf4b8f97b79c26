"""Check a configuration without starting: the `check-config` command."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from proxy.configuration.conflicts import notes
from proxy.configuration.rendering import effective_yaml
from proxy.settings import read_settings


def check_config(
    *, flags: Mapping[str, object], config_path: Path | None, print_effective: bool
) -> int:
    """Write a verdict to standard error and, if asked, the effective settings to standard output.

    Returns:
        0; an invalid configuration raises.

    Raises:
        SettingsInvalid: with every problem and its source.
    """
    loaded = read_settings(flags=flags, config_path=config_path)
    for note in notes(loaded.settings):
        sys.stderr.write(f"note: {note}\n")
    if print_effective:
        sys.stdout.write(effective_yaml(loaded.settings, loaded.source_of))
    sys.stderr.write("configuration is valid\n")
    return 0
