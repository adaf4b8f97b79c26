"""Fakes of the outside world that pass the same contracts as what they stand for."""
