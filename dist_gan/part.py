"""`Part`: a frozen, strict model whose fields are its configuration and whose methods are its behaviour.

A loss, a penalty, a network recipe, a data source, a schedule is a Part. Kinds are closed unions discriminated by
`name`, so validation, `--help` and the contract tests come from the same lines.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ConfigError(ValueError):
    """What the user asked for cannot be done; the message says what, where, what was expected and what to do.

    The entry commands print it once, without a traceback, and end with exit code 2.
    """


class Part(BaseModel):
    """Base of everything that can be configured. Frozen; unknown keys are errors; NaN and Inf are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    def identity(self) -> dict[str, Any]:
        """The fields that determine the model: all of them but those declared with `free`, as plain data."""
        fields = type(self).model_fields.items()
        return {name: _identity(getattr(self, name)) for name, field in fields if not is_free(field)}


def free(default: Any, **constraints: Any) -> Any:
    """A field that may change from one start of a run to the next: it does not change what is learnt."""
    return Field(default, json_schema_extra={"free": True}, **constraints)


def is_free(field: Any) -> bool:
    """Whether `field` (a pydantic FieldInfo) was declared with `free`."""
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("free"))


def _identity(value: Any) -> Any:
    if isinstance(value, Part):
        return value.identity()
    if isinstance(value, tuple | list):
        return [_identity(item) for item in value]
    return value
