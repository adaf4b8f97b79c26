"""The base of everything that can be configured."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

_NUMBERS: Final = (int, float, int | None)


class Section(BaseModel):
    """Base of all sections: frozen, no unknown names, no infinite numbers."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def refuse_truth_for_number(cls, given: Any, info: ValidationInfo) -> Any:
        """Refuse `true` where a number is meant: pydantic would read it as 1."""
        field = cls.model_fields[str(info.field_name)]
        if isinstance(given, bool) and field.annotation in _NUMBERS:
            raise ValueError("must be a number, not true or false")
        return given
