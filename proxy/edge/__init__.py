"""Performs: the only third-party imports, one library per file."""
