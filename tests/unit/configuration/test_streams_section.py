"""Claims about `proxy.configuration.streams_section`."""

from proxy.configuration.streams_section import Streams
from proxy.core.stream_lag import LagPolicy, OverLag


def test_the_defaults_are_those_of_the_flows() -> None:
    """Settings only say what is different."""
    assert Streams().lag_policy() == LagPolicy()
    given = Streams(lag_max_s=60, over_lag=OverLag.BYPASS, short_ttl_s=1)
    assert given.lag_policy() == LagPolicy(60, OverLag.BYPASS, 1)
