"""Benchmarks: each a module to run, with a test that runs it once with tiny inputs."""
