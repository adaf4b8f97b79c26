"""Claims about `proxy.configuration.near_section`."""

from proxy.configuration.model import Settings
from proxy.configuration.near_section import Near
from proxy.core.policy import NearPolicy


def test_the_budget_is_shared_out_among_workers() -> None:
    """What is set is for all of them together."""
    near = Near(bytes_max=1000, table_share_max=0.5, eventual_delta_s=2.0)
    assert near.policy(4).bytes_max == 250
    assert near.policy(4).table_share_max == 0.5
    assert near.policy(4).eventual_delta_s == 2.0


def test_readers_at_session_use_copies_of_a_single_process_only() -> None:
    """With several, a client may write through one and read another's copy."""
    assert Near().policy(1) == NearPolicy()
    assert Near().policy(2).delta_s == 0.0
    assert Settings(workers=2).near_policy().delta_s == 0.0
