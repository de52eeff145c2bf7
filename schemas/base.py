"""Common base of all schemas: frozen, and strict about unknown fields."""

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    """A frozen record; an unknown field is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Sealed(Schema):
    """A record whose file contains the digest of its content."""

    sha256: str | None = None
    """SHA-256 of the other fields as JSON, with sorted keys and no white space; None in files of
    older versions."""
