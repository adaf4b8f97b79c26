"""Finds AWS's own endpoints for DynamoDB, by botocore's rules.

Called once, at start. `AWS_ENDPOINT_URL*` and its like in the profile are ignored on purpose:
they point the SDK at this very proxy, which would then be its own upstream.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import botocore.session
from botocore.endpoint_provider import EndpointProvider
from botocore.exceptions import BotoCoreError
from botocore.utils import validate_region_name

from proxy.core.errors import SettingsInvalid

REGION_WITHOUT_AWS: Final = "us-east-1"
"""Signs for an explicit endpoint, an emulator mostly, when nobody names a region."""

NO_REGION: Final = (
    "no AWS region: set --region, AWS_REGION, AWS_DEFAULT_REGION or the profile's region, "
    "or name an upstream endpoint"
)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where upstream is.

    Args:
        region: the region to sign for.
        dynamodb_url: endpoint for DynamoDB, without a slash at its end.
        streams_url: endpoint for DynamoDB Streams.
        ca_bundle: PEM file named by `AWS_CA_BUNDLE` or the profile, or None for the system's.
    """

    region: str
    dynamodb_url: str
    streams_url: str
    ca_bundle: str | None


def resolve_endpoints(
    environ: Mapping[str, str],
    *,
    endpoint: str | None = None,
    region: str | None = None,
    profile: str | None = None,
) -> Endpoints:
    """Find the endpoints to forward to; an explicit one that is not AWS's serves Streams as well.

    Args:
        environ: where `AWS_REGION` is looked up; botocore reads the rest from the process's own
            environment: `AWS_DEFAULT_REGION`, `AWS_PROFILE`, `AWS_CONFIG_FILE`, `AWS_CA_BUNDLE`,
            `AWS_USE_FIPS_ENDPOINT`, `AWS_USE_DUALSTACK_ENDPOINT`.
        endpoint: an explicit URL, `http://127.0.0.1:8000`, or None for AWS. One of AWS's own names
            its region, the only one it takes signatures for, and has its Streams beside it.
        region: an explicit region; goes before the environment's and the profile's.
        profile: a profile's name; goes before `AWS_PROFILE`.

    Raises:
        SettingsInvalid: no region and no explicit endpoint, or a region or profile that botocore
            refuses.
    Source: AWS SDKs and Tools Reference, "AWS Region" and "Service-specific endpoints".
    """
    session = botocore.session.Session(profile=profile)
    try:
        found = region or environ.get("AWS_REGION") or session.get_config_variable("region")
        ca_bundle = session.get_config_variable("ca_bundle")
        if endpoint is not None:
            url = endpoint.rstrip("/")
            named = region_in(url) or found
            return Endpoints(named or REGION_WITHOUT_AWS, url, streams_beside(url), ca_bundle)
        if found is None:
            raise SettingsInvalid([NO_REGION])
        validate_region_name(found)
        return Endpoints(
            found,
            _url_by_rules(session, "dynamodb", found),
            _url_by_rules(session, "dynamodbstreams", found),
            ca_bundle,
        )
    except BotoCoreError as error:
        raise SettingsInvalid([f"AWS settings: {error}"]) from error


_AWS_URL: Final = re.compile(
    r"https?://(?:vpce-[^.]+\.)?dynamodb(?:-fips)?\.(?P<region>[a-z0-9-]+)\."
    r"(?:vpce\.)?(?:amazonaws\.com|amazonaws\.com\.cn|api\.aws)(?::\d+)?"
)
_AWS_PUBLIC_URL: Final = re.compile(r"https?://dynamodb\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?")


def region_in(url: str) -> str | None:
    """Return the region that one of AWS's own DynamoDB endpoints names, else None."""
    found = _AWS_URL.fullmatch(url)
    return found["region"] if found else None


def streams_beside(url: str) -> str:
    """Return the Streams endpoint that belongs to a DynamoDB endpoint.

    AWS's public endpoints have Streams under a name of their own; emulators serve both at one
    place.
    """
    if _AWS_PUBLIC_URL.fullmatch(url) is None:
        return url
    return url.replace("://dynamodb.", "://streams.dynamodb.", 1)


def _url_by_rules(session: botocore.session.Session, service: str, region: str) -> str:
    # Evaluating the rules costs 1 ms; building a client only to ask it costs 50 and needs
    # credentials.
    loader = session.get_component("data_loader")
    provider = EndpointProvider(
        loader.load_service_model(service, "endpoint-rule-set-1"), loader.load_data("partitions")
    )
    endpoint = provider.resolve_endpoint(
        Region=region,
        UseFIPS=bool(session.get_config_variable("use_fips_endpoint")),
        UseDualStack=bool(session.get_config_variable("use_dualstack_endpoint")),
    )
    return str(endpoint.url).rstrip("/")
