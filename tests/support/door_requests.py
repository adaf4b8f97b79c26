"""Requests as SDKs spell them, byte for byte, for tests of the fast door."""

from __future__ import annotations

from typing import Final

BODY: Final = b'{"TableName": "orders", "Key": {"pk": {"S": "a"}}}'

FIELDS: Final = (
    ("Host", "127.0.0.1:8111"),
    ("Accept-Encoding", "identity"),
    ("X-Amz-Target", "DynamoDB_20120810.GetItem"),
    ("Content-Type", "application/x-amz-json-1.0"),
    ("User-Agent", "Boto3/1.43 md/Botocore#1.43 os/linux lang/python#3.13"),
    ("X-Amz-Date", "20261123T220624Z"),
    (
        "Authorization",
        "AWS4-HMAC-SHA256 Credential=x/20261123/us-east-1/dynamodb/aws4_request,"
        " SignedHeaders=content-type;host;x-amz-date;x-amz-target, Signature=" + "fa9fdeae" * 8,
    ),
    ("amz-sdk-invocation-id", "390e1849-0f2d-4dce-86f0-19ac4276393b"),
    ("amz-sdk-request", "attempt=1"),
)
"""What boto3 sends with a GetItem, but for Content-Length."""


def raw_request(
    body: bytes = BODY,
    fields: tuple[tuple[str, str], ...] = FIELDS,
    *,
    length: str | None = "",
    **changed: str | None,
) -> bytes:
    """Return the bytes of one request.

    Args:
        body: its body.
        fields: its fields, in their order.
        length: the text of Content-Length; empty for the right one, None for no such field.
        changed: fields to set instead, or to add, `_` for `-`; None leaves one out.
    """
    given = {name.replace("_", "-").lower(): text for name, text in changed.items()}
    told = [(name, given.pop(name.lower(), text)) for name, text in fields]
    told += given.items()
    if length is not None:
        told.append(("Content-Length", length or str(len(body))))
    lines = "".join(f"{name}: {text}\r\n" for name, text in told if text is not None)
    return f"POST / HTTP/1.1\r\n{lines}\r\n".encode() + body
