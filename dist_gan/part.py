"""`Part`: a frozen, strict model whose fields are its configuration and whose methods are its behavior.

A loss, a penalty, a network recipe, a data source, a schedule is a Part. Kinds are unions discriminated by `name`, so
validation, `--help` and the contract tests come from the same lines. What changes at run time is in a runtime twin that
the Part builds; what of it must survive a restart is `Stateful`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from torch import Tensor


class Reference(NamedTuple):
    """How a class of the user's own is referred to (see `dist_gan.own_parts`)."""

    text: str
    """What finds it again from the current directory: `folder/file.py:Class` or `package.module:Class`."""
    label: str
    """The same without the folder: part of what determines the model."""
    file: str
    """Where its code is, for messages; empty where that is unknown."""
    sha256: str
    """Of that code; empty where it cannot be read."""


class Part(BaseModel):
    """Base of everything that can be configured. Frozen; unknown keys are errors; NaN and Inf are errors."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )

    reference: ClassVar[Reference | None] = None
    """Of a class of the user's own: set when a config first uses it."""

    def identity(self) -> dict[str, Any]:
        """The fields that determine the model: all of them but those declared with `free`, as plain data."""
        fields = type(self).model_fields.items()
        own = type(self).__dict__.get("reference")
        found = {name: _identity(getattr(self, name)) for name, field in fields if not is_free(field)}
        return found | ({"name": own.label} if own else {})


def _at_home(path: str) -> str:
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError:
        user = path.partition("/")[0]
        raise ValueError(f"a path on this machine, where {user} is no user's home. ./{user} is a name here") from None


PathText = Annotated[str, AfterValidator(_at_home)]
"""A path, in which `~` and `~name` are homes, as in a shell."""


class Stateful(Protocol):
    """What must survive a restart. `load(state())` changes nothing, and `state()` changes nothing either."""

    def state(self) -> "dict[str, Tensor]":
        """Everything that must survive, by name. The same names before the first update and after the last."""

    def load(self, state: "Mapping[str, Tensor]") -> None:
        """The inverse of `state`. Raises KeyError where an entry is missing; there are no silent defaults."""


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
