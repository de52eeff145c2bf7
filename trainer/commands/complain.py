"""What goes wrong, on standard error."""

from rich.console import Console
from rich.text import Text


def complain(line: str) -> None:
    """One line on standard error, whatever its length."""
    Console(stderr=True).print(Text(" ".join(line.split())), soft_wrap=True)
