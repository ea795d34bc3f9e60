"""Sphinx builds the documentation:  sphinx-build -W --keep-going docs docs/_build."""

import os
import sys
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import keras_nlp_bridge  # noqa: E402

project = "keras_nlp_bridge"
author = copyright = "The keras_nlp_bridge developers"
version = release = keras_nlp_bridge.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "mathml",  # in _ext
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]

# ------------------------------------------------------------------------------- pages

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"keras_nlp_bridge {version}"
html_static_path = ["_static"]
html_css_files = ["own.css"]
html_show_sourcelink = False
pygments_style = "friendly"
pygments_dark_style = "native"

# --------------------------------------------------------------------------------- API

default_role = "py:obj"
autosummary_generate = True
autodoc_typehints = "none"  # the docstrings say them
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False

# ----------------------------------------------------------------------------- gallery

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "examples",
    "within_subsection_order": "FileNameSortKey",
    "default_thumb_file": str(HERE / "demo.png"),  # of a script that draws nothing
    "filename_pattern": r"\.py$",  # run them all
    "reset_argv": "pictures.arguments",
    "image_scrapers": ("matplotlib", "pictures.written"),
    "reset_modules": ("matplotlib", "pictures.reset_keras"),
    "download_all_examples": False,
    "show_signature": False,
    "remove_config_comments": True,
    "min_reported_time": 1,
    "write_computation_times": False,
}
