"""Configuration of the documentation site, which ``scripts/docs`` builds with Sphinx.

The source folder is the repository, so that links between README.md and docs/ are the same in the
repository and on the site.
"""

from __future__ import annotations

import fnmatch
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

import onefs
from onefs import errors

project = "onefs"
author = "the onefs authors"
version = release = onefs.__version__
html_title = f"onefs {version}"
html_theme = "furo"
html_copy_source = False
html_show_sourcelink = False
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinxcontrib.mermaid",
]

root_doc = "README"
include_patterns = ["*.md", "docs/**", "tests/**/*.md"]
exclude_patterns = [".*", "build", "dist", "*.egg-info", "**/__pycache__"]

# anchors of headings and fences of diagrams, as GitHub has them
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]
mermaid_fullscreen = False

# code without a language is text, not Python
highlight_language = "none"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
# a longer signature has one line for each argument
maximum_signature_line_length = 100
python_use_unqualified_type_names = True
napoleon_numpy_docstring = False
toc_object_entries_show_parents = "hide"
# a reference to a name of onefs must resolve; names of other libraries and the internal types of
# signatures are not linked
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!onefs\.).*"),
    ("py:class", r"onefs\.(access|config|mount|one\.laboratory_client|search\.alyx_search)\..*"),
]

#: the sections of the navigation, and their pages
SECTIONS = {
    "Use": [
        f"docs/{name}"
        for name in ("PATHS", "LANGUAGES", "tutorial", "COMMANDS", "TROUBLESHOOTING", "GLOSSARY")
    ],
    "Reference for Python": ["docs/reference/one", "docs/reference/errors"],
    "Behaviour": ["docs/SEMANTICS", "docs/ONE-SEMANTICS", "docs/REQUESTS"],
    "Work on onefs": ["CONTRIBUTING", "docs/ARCHITECTURE"],
    "Measured": ["docs/measured/*"],
    "More": [],
    "Decisions": ["docs/decisions/*"],
}


def sections(pages: set[str]) -> dict[str, list[str]]:
    """Return the pages of each section. "More" has those that no other section has."""
    found = {
        name: [page for each in patterns for page in sorted(fnmatch.filter(pages, each))]
        for name, patterns in SECTIONS.items()
    }
    elsewhere = {page for name in SECTIONS if name != "More" for page in found[name]}
    found["More"] = sorted(pages - elsewhere)
    return found


def add_navigation(app: Sphinx, page: str, content: list[str]) -> None:
    """Add the navigation to the first page. README.md itself has none, because GitHub shows it."""
    if page != root_doc:
        return
    for name, pages in sections(app.env.found_docs - {root_doc}).items():
        lines = "\n".join(f"/{each}" for each in pages)
        content[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {name}\n\n{lines}\n```\n"


def link_error(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.reference | None:
    """Link the name of an error, which docstrings write without ``onefs.errors``."""
    name = node["reftarget"]
    if node.get("refdomain") != "py" or not hasattr(errors, name):
        return None
    python: Any = env.get_domain("py")
    link: nodes.reference | None = python.resolve_xref(
        env, node["refdoc"], app.builder, "exc", f"onefs.errors.{name}", node, text
    )
    return link


def setup(app: Sphinx) -> None:
    """Connect the functions of this file to the events of Sphinx."""
    app.connect("source-read", add_navigation)
    app.connect("missing-reference", link_error)
