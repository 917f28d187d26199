"""Sphinx configuration: `sphinx-build -W -b html docs docs/_build/html`."""

from importlib.metadata import version as installed_version

project = "gmmkit"
author = "The gmmkit developers"
copyright = "2026, The gmmkit developers"
release = version = installed_version("gmmkit")

extensions = [
    "matplotlib.sphinxext.plot_directive",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
]
exclude_patterns = ["_build"]
default_role = "py:obj"  # `GMMStats` in a docstring links where it can
rst_prolog = ".. currentmodule:: gmmkit\n"  # so that pages link to `GMMMachine.merge`, too

autosummary_generate = True
autodoc_typehints = "none"  # the docstrings state the types
numpydoc_show_class_members = False  # docs/_templates lists the members
templates_path = ["_templates"]

plot_formats = [("png", 110)]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_include_source = True
plot_rcparams = {"figure.figsize": (6.0, 4.0)}

html_theme = "furo"
html_static_path = ["_static"]
html_title = f"gmmkit {release}"
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}


def is_machinery(app, what, name, obj, skip, options):
    """Leave out what scikit-learn's base classes bring along, such as ``set_fit_request``."""
    inherited = (getattr(obj, "__module__", None) or "").startswith("sklearn.")
    return True if inherited and what == "class" else None


def setup(app):
    app.connect("autodoc-skip-member", is_machinery)
