"""A boto3 client as applications make it, but for fixed credentials and an endpoint of ours."""

from __future__ import annotations

from typing import Any

import boto3
from botocore.config import Config

from tests.support.proxy_process import ACCESS_KEY, REGION, SECRET_KEY


def boto3_client(endpoint: str, *, attempts: int = 1, service: str = "dynamodb") -> Any:
    """Make a client; `attempts` 1 never repeats a request."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(retries={"mode": "standard", "total_max_attempts": attempts}),
    )
