"""Helpers that tests import: real engines, and what to do when a tool is missing."""
