"""The installed version, which is `featurestore`'s: one distribution holds both programs."""

from featurestore.version import __version__ as __version__
