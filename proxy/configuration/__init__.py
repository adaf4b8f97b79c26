"""The parts behind `proxy.settings`: sections, sources, conflicts, and how settings are printed."""
