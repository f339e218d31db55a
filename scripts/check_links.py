"""Checks the links of a folder of HTML pages. Prints each bad link; exits with 1 if there is one.

A relative link must lead to a file in the folder, and its anchor to an element of that page. Of a
link to another server only the form is checked, because nothing is requested.

usage: check_links.py FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links of a page, and the anchors that links to the page can name."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        #: "" and "top" mean the beginning of the page
        self.anchors = {"", "top"}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value or "")
            elif name in ("href", "src"):
                self.links.append(value or "")


def bad_links(folder: Path) -> Iterator[str]:
    """Yield one line for each bad link of the pages in a folder and its subfolders."""
    pages = {file: Page(file.read_text("utf-8")) for file in sorted(folder.rglob("*.html"))}
    if not pages:
        yield f"{folder} has no pages"
    for file, page in pages.items():
        for link in page.links:
            problem = problem_of(link, file, folder, pages)
            if problem:
                yield f"{file.relative_to(folder)}: {link!r} {problem}"


def problem_of(link: str, file: Path, folder: Path, pages: dict[Path, Page]) -> str:
    """Return what is wrong with a link on the page ``file``. Return '' if the link is good."""
    try:
        parts = urlsplit(link)
    except ValueError as error:
        return f"is not a URL: {error}"
    if parts.scheme in ("mailto", "data"):
        return "" if parts.path else "is empty"
    if parts.scheme or parts.netloc:
        good = parts.scheme in ("https", "http") and parts.hostname and " " not in link
        return "" if good else "is not a URL of a web page"
    if parts.path.startswith("/"):
        return "is not relative: it is broken where the site is not at the root of a server"
    target = file if not parts.path else (file.parent / unquote(parts.path)).resolve()
    if not target.is_relative_to(folder):
        return "leads out of the site"
    if not target.is_file():
        return "leads to no file"
    if target in pages and unquote(parts.fragment) not in pages[target].anchors:
        return "names an anchor that the page does not have"
    return ""


def main() -> int:
    """Check the folder that the command line names. Return the exit code."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    problems = list(bad_links(Path(sys.argv[1]).resolve()))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
