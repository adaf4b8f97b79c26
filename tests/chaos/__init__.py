"""Real processes, a real store, faults from a seed: the guarantees judged by the simulation's checkers."""
