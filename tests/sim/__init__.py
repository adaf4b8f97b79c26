"""Seeded simulation: several proxies, one store, one DynamoDB, virtual time, everything may fail."""
