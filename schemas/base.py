"""The base every schema shares: frozen, and strict about names it does not know."""

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    """A frozen record; an unknown field is an error, never ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")
