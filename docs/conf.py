"""Settings of Sphinx. `make site` builds the pages; see docs/build.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

project = "Model Compression, Measured"
copyright = "the authors, under the Apache License 2.0"
language = "en"
extensions = ["myst_nb", "sphinx.ext.autodoc", "docs.sphinx_math", "docs.sphinx_links", "docs.sphinx_docstrings"]
exclude_patterns = ["generated"]

# Notebooks come executed, see docs/execute.py. Nothing is fetched: widgets are words by now, formulas are MathML.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_render_markdown_format = "myst"
myst_enable_extensions = ["colon_fence", "dollarmath"]
html_math_renderer = "mathml"

add_module_names = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_display_short_literal_types = True

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["static"]
html_css_files = ["course.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_search_summary = False  # fetched page by page, which no browser allows for pages opened as files
html_permalinks_icon = "#"
html_sidebars = {page: [] for page in ("index", "claims", "glossary", "times", "instructors", "data", "contributing")}
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is
html_theme_options = {
    "logo": {"text": project},
    "header_links_before_dropdown": 5,
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "secondary_sidebar_items": ["page-toc"],
    "show_nav_level": 1,
}
