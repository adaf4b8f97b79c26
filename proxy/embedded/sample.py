"""Create and fill the demo's table; running it again changes nothing but what the demo wrote."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import botocore.session
from botocore.config import Config

TABLE: Final = "demo-products"
PRODUCTS: Final = (
    ("kettle", "24.9"),
    ("teapot", "19.5"),
    ("cup", "4.2"),
    ("saucer", "2.8"),
    ("spoon", "1.9"),
    ("fork", "1.9"),
    ("knife", "2.4"),
    ("plate", "6.5"),
    ("bowl", "5.8"),
    ("pan", "34"),
    ("pot", "42"),
    ("lid", "8"),
    ("ladle", "7.3"),
    ("whisk", "6.1"),
    ("sieve", "9.4"),
    ("grater", "11.2"),
    ("board", "14.9"),
    ("scales", "27"),
    ("timer", "12.5"),
    ("apron", "16.8"),
)
STOCK: Final = 100


def sample_items() -> list[dict[str, dict[str, str]]]:
    """Return the table's items in DynamoDB JSON: `{"sku": {"S": "p-01"}, "name": …}`."""
    return [
        {
            "sku": {"S": f"p-{number:02}"},
            "name": {"S": name},
            "price": {"N": price},
            "stock": {"N": str(STOCK)},
        }
        for number, (name, price) in enumerate(PRODUCTS, start=1)
    ]


def fill_sample_table(endpoint: str, region: str) -> int:
    """Create the table unless it exists, put every sample item, and return how many.

    Args:
        endpoint: of a DynamoDB engine; credentials come from botocore's chain.
        region: what the requests are signed for; engines keep one set of tables for each.

    Raises:
        botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError: the engine refused.
    """
    client: Any = botocore.session.get_session().create_client(
        "dynamodb",
        region_name=region,
        endpoint_url=endpoint,
        config=Config(
            connect_timeout=5,
            read_timeout=10,
            retries={"total_max_attempts": 2},
            proxies={},  # none, whatever the environment says: the engine is on this machine
        ),
    )
    with suppress(client.exceptions.ResourceInUseException):  # there from an earlier demo
        client.create_table(
            TableName=TABLE,
            KeySchema=[{"AttributeName": "sku", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "sku", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    client.get_waiter("table_exists").wait(TableName=TABLE, WaiterConfig={"Delay": 1})
    items = sample_items()
    for item in items:
        client.put_item(TableName=TABLE, Item=item)
    client.close()
    return len(items)
