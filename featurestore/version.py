"""Installed version of this distribution, which contains both programs."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("featurestore")
except PackageNotFoundError:  # imported from a directory, without being installed
    __version__ = "unknown"
