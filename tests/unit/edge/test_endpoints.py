"""Claims about `proxy.edge.endpoints`, against botocore's own rules."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.core.errors import SettingsInvalid
from proxy.edge.endpoints import NO_REGION, Endpoints, resolve_endpoints


@pytest.fixture(autouse=True)
def profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give an AWS environment that is empty but for a profile file."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    return path


@pytest.mark.parametrize(
    ("region", "domain"),
    [
        ("eu-west-1", "eu-west-1.amazonaws.com"),
        ("cn-north-1", "cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "us-gov-west-1.amazonaws.com"),
        ("us-iso-east-1", "us-iso-east-1.c2s.ic.gov"),
    ],
)
def test_each_partition_has_its_domain(region: str, domain: str) -> None:
    """Both endpoints lie in the region, under the domain of its partition."""
    expected = Endpoints(
        region, f"https://dynamodb.{domain}", f"https://streams.dynamodb.{domain}", None
    )
    assert resolve_endpoints({}, region=region) == expected


def test_sdk_endpoint_variables_are_ignored(monkeypatch: pytest.MonkeyPatch, profile: Path) -> None:
    """The variables that lead the SDK to this proxy do not lead the proxy to itself."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"):
        monkeypatch.setenv(name, "http://127.0.0.1:8111")
    profile.write_text("[default]\nendpoint_url = http://127.0.0.1:8111\n")
    found = resolve_endpoints({}, region="eu-west-1")
    assert found.dynamodb_url == "https://dynamodb.eu-west-1.amazonaws.com"


def test_explicit_endpoint_serves_both() -> None:
    """An explicit endpoint is used for DynamoDB and Streams, and needs no region."""
    found = resolve_endpoints({}, endpoint="http://127.0.0.1:8000/")
    assert found == Endpoints("us-east-1", "http://127.0.0.1:8000", "http://127.0.0.1:8000", None)


@pytest.mark.parametrize(
    ("url", "region", "streams"),
    [
        (
            "https://dynamodb.eu-central-1.amazonaws.com",
            "eu-central-1",
            "https://streams.dynamodb.eu-central-1.amazonaws.com",
        ),
        (
            "https://dynamodb.cn-north-1.amazonaws.com.cn",
            "cn-north-1",
            "https://streams.dynamodb.cn-north-1.amazonaws.com.cn",
        ),
        ("https://dynamodb-fips.us-west-2.amazonaws.com", "us-west-2", None),
        ("https://vpce-0a-b.dynamodb.us-west-2.vpce.amazonaws.com", "us-west-2", None),
        ("https://dynamodb.us-west-2.api.aws", "us-west-2", None),
        ("http://127.0.0.1:8000", "us-east-1", None),
        ("https://dynamodb.us-west-2.amazonaws.com.example.org", "us-east-1", None),
    ],
)
def test_aws_endpoint_names_its_region_and_streams(
    url: str, region: str, streams: str | None
) -> None:
    """Signing for another region than the endpoint's would be refused."""
    found = resolve_endpoints({}, endpoint=url, region="us-east-1")
    assert (found.region, found.dynamodb_url) == (region, url)
    assert found.streams_url == (streams or url)


def test_region_is_looked_up_in_order(monkeypatch: pytest.MonkeyPatch, profile: Path) -> None:
    """An explicit region goes before AWS_REGION, AWS_DEFAULT_REGION and the profile's."""
    profile.write_text("[default]\nregion = eu-west-4\n[profile other]\nregion = eu-west-5\n")
    assert resolve_endpoints({}).region == "eu-west-4"
    assert resolve_endpoints({}, profile="other").region == "eu-west-5"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    assert resolve_endpoints({}).region == "eu-west-3"
    environ = {"AWS_REGION": "eu-west-2"}
    assert resolve_endpoints(environ).region == "eu-west-2"
    assert resolve_endpoints(environ, region="eu-west-1").region == "eu-west-1"


def test_missing_region_says_what_to_set() -> None:
    """Without a region and an endpoint the operator is told every way to name one."""
    with pytest.raises(SettingsInvalid) as caught:
        resolve_endpoints({})
    assert caught.value.problems == [NO_REGION]


@pytest.mark.parametrize(
    ("region", "profile_name"), [("not a region", None), ("eu-west-1", "no-such-profile")]
)
def test_refused_region_or_profile_is_a_setting(region: str, profile_name: str | None) -> None:
    """What botocore refuses is reported as an invalid setting."""
    with pytest.raises(SettingsInvalid):
        resolve_endpoints({}, region=region, profile=profile_name)


def test_fips_and_dual_stack_are_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDKs' switches for FIPS and dual-stack endpoints hold for the proxy too."""
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    found = resolve_endpoints({}, region="us-east-1")
    assert found.dynamodb_url == "https://dynamodb-fips.us-east-1.amazonaws.com"
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "false")
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", "true")
    found = resolve_endpoints({}, region="us-east-1")
    assert found.dynamodb_url == "https://dynamodb.us-east-1.api.aws"


def test_ca_bundle_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundle named in the environment comes with the endpoints."""
    monkeypatch.setenv("AWS_CA_BUNDLE", "ca.pem")
    assert resolve_endpoints({}, region="eu-west-1").ca_bundle == "ca.pem"
