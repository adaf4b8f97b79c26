"""Sequences: async, third-party-free; sees the world through ports."""
