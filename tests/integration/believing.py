"""`featurestore` as a program that takes another archive for the official one.

`python -m tests.integration.believing ARCHIVE …`, where ARCHIVE is its description in JSON.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from types import MappingProxyType

from featurestore.cli import main
from featurestore.datasets import DatasetKind, kinds
from featurestore.datasets.archives import Archive


def believing(archive: Archive) -> Mapping[str, DatasetKind]:
    """The datasets, each with `archive`, of which its clips are all, where it has one."""
    found = {
        name: dataclasses.replace(kind, archive=archive, num_clips=archive.num_clips)
        if kind.archive
        else kind
        for name, kind in kinds.DATASETS.items()
    }
    return MappingProxyType(found)


if __name__ == "__main__":
    kinds.DATASETS = believing(Archive(**json.loads(sys.argv[1])))
    sys.exit(main(sys.argv[2:]))
