"""Real processes, a real store, faults from a seed; judged by the simulation's checkers."""
