"""Gives every test the same environment, whoever starts it, before anything else is imported.

Libraries read most of these variables at their import, so that a test could not set them back. A
test of a variable sets it itself.
"""

import os
import sys
import time

# Widths and colours of the terminal, the language, servers and credentials, where data lie, and
# other settings of libraries.
_NAMES = (
    *("CI", "COLORTERM", "COLUMNS", "FORCE_COLOR", "GITHUB_ACTIONS", "LINES", "NO_COLOR"),
    *("LANGUAGE", "PY_COLORS", "PYTHONWARNINGS", "SOURCE_DATE_EPOCH", "TERMINAL_WIDTH", "TZ"),
    *("PYTHONIOENCODING", "PYTHONSAFEPATH", "PYTHONUTF8"),
)
_PREFIXES = (
    *("AWS_", "CLICOLOR", "DASK_", "FEATURESTORE_", "GIT_", "HF_", "LC_", "MLFLOW_", "MPL", "OMP_"),
    *("TTY_", "TYPER_", "_TYPER_", "ZARR_"),
)

for _name in [*os.environ]:
    if _name in _NAMES or _name.startswith(_PREFIXES):
        del os.environ[_name]
os.environ |= {"LANG": "C.UTF-8", "TERM": "xterm", "TZ": "UTC"}
os.environ |= dict.fromkeys(("NO_PROXY", "no_proxy"), "localhost,127.0.0.1")
time.tzset()
os.umask(0o022)

# Without their bytecode, torch and the rest are compiled anew by each process that a test starts.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
