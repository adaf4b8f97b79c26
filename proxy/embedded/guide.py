"""Write what the demo prints: where it listens, and lines to paste that show it at work.

The lines are a shell script as a whole, so a test can run exactly what a newcomer would paste.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.embedded.sample import TABLE

PASTE: Final = "Paste into another terminal:"

EXPORTS: Final = """\
export AWS_ENDPOINT_URL_DYNAMODB={data_url} AWS_DEFAULT_REGION={region}
export NO_PROXY=127.0.0.1,localhost no_proxy=127.0.0.1,localhost
"""

SCRIPT: Final = """\
export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local

# The aws CLI reads one item twice: a miss, which asks DynamoDB, then a hit, which does not.
read_item() {{
  said=$({python} -m awscli dynamodb get-item --table-name {table} --key "$1" --debug 2>&1)
  found=$(printf '%s' "$said" | grep -io "'cache-status': '[^']*'" | head -n 1)
  echo "${{found:-no answer: $(printf '%s' "$said" | tail -n 1)}}"
}}
read_item '{{"sku": {{"S": "p-01"}}}}'
read_item '{{"sku": {{"S": "p-01"}}}}'

# boto3 reads another item twice, writes it, and reads its own write at once.
{python} - <<'EOF'
import boto3
table, sku = boto3.resource("dynamodb").Table("{table}"), {{"sku": "p-07"}}
def read(what):
    reply = table.get_item(Key=sku)
    status = reply["ResponseMetadata"]["HTTPHeaders"].get("cache-status")
    print(f"{{what:<12}} stock={{reply['Item']['stock']}}  {{status}}")
read("first read")
read("second read")
table.update_item(Key=sku, UpdateExpression="ADD stock :n", ExpressionAttributeValues={{":n": -1}})
read("after write")
read("once more")
EOF
"""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running demo is found.

    Args:
        data: host and port for SDKs, `127.0.0.1:8111`.
        ops: host and port of metrics and probes.
        region: what clients sign for.
    """

    data: str
    ops: str
    region: str


def guide(addresses: Addresses, *, has_table: bool) -> str:
    """Return the demo's text; without the sample table, only how to point an SDK at it."""
    data_url = f"http://{addresses.data}"
    exports = EXPORTS.format(data_url=data_url, region=addresses.region)
    lines = [
        "",
        f"dynaside serves DynamoDB on {data_url}; Ctrl-C ends it and all it started.",
        f"metrics    http://{addresses.ops}/metrics",
        f"status     http://{addresses.ops}/status",
        f"readiness  http://{addresses.ops}/readyz",
        "",
    ]
    if not has_table:
        lines += [
            "No table is created at an endpoint that is not on this machine. To use yours:",
            "",
            exports,
        ]
        return "\n".join(lines)
    # The whole path, so that the lines work in whatever folder they are pasted.
    python = shlex.quote(str(Path(sys.executable).absolute()))
    script = SCRIPT.format(python=python, table=TABLE)
    return "\n".join([*lines, PASTE, "", exports + script])
