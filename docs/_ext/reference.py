"""The reference, made from the code: commands, fields of schemas, outcomes of clips, public names.

```{commands} featurestore.cli
```{fields} schemas.FeatureSpec
```{clip-statuses}
```{public} featurestore
"""

import ast
import enum
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import typer
from docutils import nodes
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from schemas import ClipStatus


class _Made(SphinxDirective):
    """A directive that is replaced by Markdown."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the Markdown of `text` as nodes."""
        return self.parse_text_to_nodes(self.text(), allow_section_headings=True)

    def text(self) -> str:
        """Return Markdown."""
        raise NotImplementedError


class Commands(_Made):
    """Every command of a program, by the module that has its `app`."""

    def text(self) -> str:
        """Return a section for each command."""
        return commands_text(self.arguments[0])


class Fields(_Made):
    """Every field of a schema."""

    def text(self) -> str:
        """Return a table."""
        return fields_text(self.arguments[0])


class Public(_Made):
    """Every public name of a package or module."""

    def text(self) -> str:
        """Return a directive of autodoc for each name in `__all__`."""
        return public_text(self.arguments[0])


class ClipStatuses(_Made):
    """What may happen to a clip."""

    required_arguments = 0

    def text(self) -> str:
        """Return a table."""
        rows = ((status.value, f"`{status.name.lower()}`", status.reason) for status in ClipStatus)
        return _table(("code", "name", "meaning"), rows)


def commands_text(module: str) -> str:
    """Return Markdown with a section for each command of a program, and its options."""
    program = module.split(".")[0]
    group: Any = typer.main.get_command(importlib.import_module(module).app)
    sections = []
    for name, command in group.commands.items():
        arguments = [p for p in command.params if p.param_type_name == "argument"]
        options = [p for p in command.params if p.param_type_name == "option" and not p.hidden]
        usage = " ".join([program, name, *(_metavar(a) for a in arguments), "[OPTIONS]"])
        rows = [(f"`{_metavar(a)}`", "required" if a.required else "", a.help) for a in arguments]
        rows += [(_option(o), _default(o), o.help) for o in options if "--help" not in o.opts]
        sections.append(
            f"({program}-{name})=\n## {program} {name}\n\n{inspect.cleandoc(command.help or '')}"
            f"\n\n```text\n{usage}\n```\n\n{_table(('option', 'default', 'meaning'), rows)}"
        )
    return "\n\n".join(sections)


def _metavar(argument: Any) -> str:
    return argument.metavar or argument.name.upper()


def _option(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag:
        return names
    annotation = option.type_descriptor.annotation
    (value,) = get_args(annotation) if option.multiple else (annotation,)
    return f"{names} {_type_name(value)}{' …' if option.multiple else ''}"


def _default(option: Any) -> str:
    if option.required:
        return "required"
    return "" if option.default in (None, False, [], ()) else f"`{option.default}`"


def fields_text(name: str) -> str:
    """Return a Markdown table of a model's fields: type, bounds, default and description.

    Args:
        name: Full name of a pydantic model.
    """
    module, _, attribute = name.rpartition(".")
    model: type[BaseModel] = getattr(importlib.import_module(module), attribute)
    described = dict(_descriptions(model))
    rows = [
        (f"`{field}`", _type(info), _value(info), described.get(field, ""))
        for field, info in model.model_fields.items()
    ]
    return f"{_first(model)}\n\n{_table(('field', 'type', 'default', 'meaning'), rows)}"


def _first(model: type) -> str:
    return inspect.cleandoc(model.__doc__ or "")


def _descriptions(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Yield each field's name and the text that follows it in the source, bases included."""
    for cls in reversed(model.__mro__):
        if not issubclass(cls, BaseModel) or cls is BaseModel:
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
        assert isinstance(body, ast.ClassDef)
        for before, after in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(before, ast.AnnAssign)
                and isinstance(before.target, ast.Name)
                and isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
            ):
                yield before.target.id, inspect.cleandoc(str(after.value.value))


def _type(info: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(rule, name):,}"
        for rule in _rules(info)
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if getattr(rule, name, None) is not None
    ]
    return ", ".join([_type_name(info.annotation), *bounds])


def _rules(info: FieldInfo) -> Iterator[Any]:
    """Yield the bounds of a field, also those inside of `X | None`."""
    yield from info.metadata
    for part in get_args(info.annotation):
        for rule in getattr(part, "__metadata__", ()):
            yield from (*getattr(rule, "metadata", ()), rule)


_PLAIN_NAMES = {int: "integer", float: "number", str: "text", bool: "true or false", Path: "path"}


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " \\| ".join(f"`{value}`" for value in get_args(annotation))
    if isinstance(annotation, type) and not get_args(annotation):
        return _PLAIN_NAMES.get(annotation, annotation.__name__)
    if hasattr(annotation, "__metadata__"):
        return _type_name(get_args(annotation)[0])
    if arguments := get_args(annotation):
        names = [_type_name(a) for a in arguments if a is not Ellipsis]
        origin = get_origin(annotation)
        if isinstance(origin, type) and origin in (tuple, list, dict, frozenset, set):
            return f"{origin.__name__} of {', '.join(names)}"
        return " \\| ".join("null" if name == "NoneType" else name for name in names)
    return str(annotation)


def _value(info: FieldInfo) -> str:
    if info.default is PydanticUndefined:
        return "required" if info.default_factory is None else ""
    return f"`{_plain(info.default)}`"


def _plain(value: Any) -> Any:
    """Return a default as a YAML file would have it."""
    if isinstance(value, BaseModel):
        return "{" + ", ".join(f"{k}: {_plain(v)}" for k, v in value.model_dump().items()) + "}"
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, tuple | list):
        return "[" + ", ".join(str(_plain(item)) for item in value) + "]"
    return "null" if value is None else value


def public_text(name: str) -> str:
    """Return a directive of autodoc for every name in a module's `__all__`, or of its classes."""
    module = importlib.import_module(name)
    parts = []
    for public in getattr(module, "__all__", None) or _classes(module):
        value = getattr(module, public)
        if public.startswith("__") or inspect.ismodule(value):  # which has a page or section
            continue
        kind, where = "autodata", name
        if inspect.isclass(value):
            kind = "autoexception" if issubclass(value, BaseException) else "autoclass"
        elif callable(value):
            kind = "autofunction"
        else:
            where = _home(name, public)
        options = "   :members:\n" if kind in {"autoclass", "autoexception"} else ""
        parts.append(f"```{{eval-rst}}\n.. {kind}:: {where}.{public}\n{options}```")
    return "\n\n".join(parts)


def _home(package: str, constant: str) -> str:
    """Return the name of the module that defines a constant, next to which its description is."""
    pattern = re.compile(rf"^{constant}\b[^=\n]*= ", re.MULTILINE)
    return next(
        name
        for name, module in sorted(sys.modules.items())
        if name.startswith((f"{package}.", "schemas."))
        and constant in vars(module)
        and pattern.search(inspect.getsource(module))
    )


def _classes(module: Any) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and name[0] != "_"
    ]


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(_cell(str(cell or "")) for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Return a text on one line that does not end the cell."""
    return re.sub(r"(?<!\\)\|", r"\\|", " ".join(text.split()))


_NDARRAY = re.compile(
    r"~?(?:numpy\.)?ndarray\[tuple\[(?:~?typing\.)?Any, \.\.\.\], "
    r"~?(?:numpy\.)?dtype\[([^\]]*)\]\]"
)


def _shorten_arrays(*event: Any) -> tuple[str | None, ...]:
    """Write `NDArray[float32]` for what the type really is; a listener of autodoc."""
    signature = event[-2:]
    return tuple(part and _NDARRAY.sub(r"~numpy.typing.NDArray[\1]", part) for part in signature)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-signature", _shorten_arrays)
    for name, directive in {
        "commands": Commands,
        "fields": Fields,
        "public": Public,
        "clip-statuses": ClipStatuses,
    }.items():
        app.add_directive(name, directive)
    return {"parallel_read_safe": True}
