"""Describe the settings of the near cache: this process's own copies of entries."""

from __future__ import annotations

from typing import Final

from pydantic import Field

from proxy.configuration.section import Section
from proxy.core.policy import NearPolicy

_NEAR: Final = NearPolicy()
_TIB: Final = 2**40


class Near(Section):
    """Copies of entries in this process, which answer without the store; never at level strict."""

    bytes_max: int = Field(
        default=_NEAR.bytes_max,
        ge=0,
        le=_TIB,
        description="Bytes of all copies at most, shared out among the workers; 0 keeps none.",
    )
    table_share_max: float = Field(
        default=_NEAR.table_share_max,
        ge=0.01,
        le=1,
        description="Largest share of bytes_max that one table's copies may have, so that a busy"
        " table leaves room for the others.",
    )
    delta_s: float = Field(
        default=_NEAR.delta_s,
        ge=0,
        le=60,
        description="Seconds that a write through another proxy may stay unseen at level session;"
        " 0 uses no copies there. With several workers none are used either: each is a proxy of"
        " its own to the others.",
    )
    eventual_delta_s: float = Field(
        default=_NEAR.eventual_delta_s,
        ge=0,
        le=60,
        description="The same at level eventual, with several workers too.",
    )

    def policy(self, workers: int) -> NearPolicy:
        """Return the bounds of one worker's copies.

        A client may write through one worker and read through another, whose copy would not show
        the write for a moment: less than `session` promises.
        """
        return NearPolicy(
            bytes_max=self.bytes_max // workers,
            table_share_max=self.table_share_max,
            delta_s=self.delta_s if workers == 1 else 0.0,
            eventual_delta_s=self.eventual_delta_s,
        )
