"""The report as one self-contained HTML page."""

from base64 import b64encode
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from featurestore.text import printable
from trainer.report.content import Report

TEMPLATE = "report.html"


def to_html(report: Report) -> str:
    """Return the whole report; pictures are inside, nothing is loaded from elsewhere."""
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printed,
    )
    environment.filters["base64"] = _base64
    template = files("trainer.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(template).render(report=report)


def _printed(value: object) -> object:
    """Escape a value for the page; texts that were escaped are ours already."""
    return value if isinstance(value, Markup) else printable(value)


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
