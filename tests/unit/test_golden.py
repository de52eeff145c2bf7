import numpy as np

from schemas import EXTRACTOR_VERSION
from tests.golden.make import FILE, images


def test_the_extractor_gives_what_it_gave_when_its_version_was_set() -> None:
    """If this fails, either the change is wrong or EXTRACTOR_VERSION must be raised."""
    assert EXTRACTOR_VERSION == 2
    with np.load(FILE) as stored:
        golden = {name.replace("|", "/"): stored[name] for name in stored.files}
    now = images()
    assert golden.keys() == now.keys()
    for name, image in golden.items():
        np.testing.assert_allclose(now[name], image, atol=1e-5, err_msg=name)
