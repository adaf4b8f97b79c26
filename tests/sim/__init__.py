"""Seeded simulation: several proxies, one store, one DynamoDB, virtual time, and faults."""
