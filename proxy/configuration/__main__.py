"""Print what documents are made of: `python -m proxy.configuration yaml`."""

from __future__ import annotations

import sys
from typing import Final

from proxy.configuration.rendering import default_yaml, schema_json, settings_table
from proxy.core.catalogue import operations_document

OUTPUTS: Final = {
    "yaml": default_yaml,
    "schema": schema_json,
    "table": settings_table,
    "operations": operations_document,
}


def main(arguments: list[str]) -> int:
    """Write one of the outputs to standard output; exit code 2 for an unknown one."""
    if len(arguments) != 1 or arguments[0] not in OUTPUTS:
        sys.stderr.write(f"usage: python -m proxy.configuration {{{','.join(OUTPUTS)}}}\n")
        return 2
    sys.stdout.write(OUTPUTS[arguments[0]]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
