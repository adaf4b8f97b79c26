"""Claims about `proxy.configuration.flags`."""

from proxy.configuration.flags import DEMO_FLAGS, FLAGS
from proxy.configuration.model import SETTINGS, dotted


def test_every_flag_sets_an_existing_setting() -> None:
    """A flag names a setting that exists."""
    assert set(FLAGS) <= {dotted(path) for path in SETTINGS}


def test_demo_takes_a_part_of_the_flags() -> None:
    """What the demo takes has a flag."""
    assert set(DEMO_FLAGS.values()) <= set(FLAGS)
