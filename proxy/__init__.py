"""A read-through caching sidecar proxy for Amazon DynamoDB."""
