"""Engines for the demo and the tests: a Valkey and a DynamoDB that end with their parent.

Imported only by `proxy.demo` and by tests; nothing that serves traffic depends on it but for the
`tether`, which ties workers to their supervisor.
"""
