"""Sphinx: `python -m sphinx -n -W docs docs/_build/html`, or `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from featurestore import __version__

project = "featurestore"
author = "The featurestore authors"
copyright = f"2026, {author}"
release = __version__

extensions = ["myst_nb", "reference", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_ext"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

# Notebooks are executed by a test, and built with the outputs that they have.
nb_execution_mode = "off"
myst_enable_extensions = ["attrs_inline", "colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_attr_annotations = False  # `np.object_` would be read as a link
add_module_names = False
python_use_unqualified_type_names = True
# Types of other libraries, the schemas and what is not public, in a module of its own, have no page
# to link to.
nitpick_ignore_regex = [
    ("py:.*", r"(?!featurestore|trainer)\S.*"),
    ("py:class", r"(featurestore|trainer)\.(?!errors\.)\w+\..*"),
]

html_theme = "pydata_sphinx_theme"
html_title = "featurestore"
html_static_path = ["_static"]
html_show_sourcelink = False
html_theme_options = {
    "navbar_align": "left",
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
}
