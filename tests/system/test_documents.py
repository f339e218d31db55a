"""The commands and programs in README.md and docs/*.md run, and print what the pages show.

Each page runs in a new home folder, its steps in order. Before output is compared, the home folder
becomes ``/home/ada``, and the user and group ``ada``. In a page, ``...`` stands for any text, such
as a time, a port, a hash, or lines that are left out. White space is not compared.
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.documents import PAGES, PROGRAMS, ROOT, WITHOUT_COMMANDS, Step, blocks, steps
from tests.required_programs import octave, rscript
from tests.running import Home, run

#: pages that another test runs
RUN_ELSEWHERE = {"docs/tutorial.md": "tests/test_tutorial_page.py"}
RUN_HERE = {name: steps(page) for name, page in PAGES.items() if name not in RUN_ELSEWHERE}
EXAMPLES = ROOT / "docs" / "examples"
MOUNT = "onefs mount --demo ~/ibl"
#: the owner and group in a line of `ls -l`
_OWNERS = re.compile(r"^(-\S{9} +\d+) +\S+ +\S+", re.MULTILINE)
#: between the outputs of two commands
_SEPARATOR = "\N{SYMBOL FOR RECORD SEPARATOR}"
_SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def is_quick(step: Step) -> bool:
    return step.language in ("console", "python")


def shell_lines(step: Step, folder: Path, number: int) -> str:
    """Return the line for bash that does a step; a program is written to ``folder`` first."""
    if step.language == "console":
        return step.code
    program = folder / f"{number}.{step.language}"
    program.write_text(step.code, "utf-8")
    if step.language == "python":
        return f"python {program}"
    if step.language == "r":
        return f"{rscript()} {program}"
    # Octave may report an error of its own when it ends
    return f"{octave()} --quiet {program} 2>/dev/null"


def outputs(wanted: list[Step], home: Home) -> list[str]:
    """Run the steps in one bash, and return the output of each."""
    clone, user_home = home.root / "clone", home.folder
    clone.mkdir()
    (clone / ".venv").symlink_to(sys.prefix)
    for example in EXAMPLES.iterdir():
        shutil.copy(example, user_home)
    lines = [shell_lines(step, home.root, number) for number, step in enumerate(wanted)]
    script = home.root / "script"
    # the working directory of a program is the home folder, where the examples are
    script.write_text("".join(f"{line}\nprintf %s '{_SEPARATOR}'\n" for line in lines), "utf-8")
    environment = {
        name: value for name, value in home.environment.items() if not name.startswith("XDG_")
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = run(
        ["bash", "-c", f"exec 2>&1; . {script}"],
        cwd=clone if wanted[0].code.startswith(". .venv") else user_home,
        environment=environment,
        code=None,
    )
    *printed, rest = as_ada(done.stdout, user_home).split(_SEPARATOR)
    assert rest == ""
    return printed


def as_ada(text: str, home: Path) -> str:
    """Return output as on the machine of the user ada."""
    return _OWNERS.sub(r"\1 ada ada", text.replace(str(home), "/home/ada"))


def check(wanted: list[Step], home: Home) -> None:
    """Fail if a step prints something else than its page shows."""
    checker = doctest.OutputChecker()
    for step, printed in zip(wanted, outputs(wanted, home), strict=True):
        assert checker.check_output(step.output, printed, _SAME), (
            f"$ {step.code}\n"
            + checker.output_difference(
                doctest.Example("", step.output), printed, doctest.REPORT_NDIFF
            )
        )


@pytest.mark.parametrize("name", [name for name, found in RUN_HERE.items() if found])
def test_a_page_shows_what_its_commands_print(name: str, home: Home) -> None:
    check(with_mount([step for step in RUN_HERE[name] if is_quick(step)]), home)


@pytest.mark.long
def test_programs_in_octave_and_r_print_what_the_page_shows(home: Home) -> None:
    programs = [step for found in RUN_HERE.values() for step in found if not is_quick(step)]
    assert {step.language for step in programs} == {"octave", "r"}
    check(with_mount(programs), home)


def with_mount(wanted: list[Step]) -> list[Step]:
    """Return the steps of a page, before them the mount that it begins with."""
    mounts = any(step.code.startswith("onefs mount") for step in wanted)
    return wanted if mounts else [Step("console", MOUNT, ""), *wanted]


@pytest.mark.parametrize("name", PAGES)
def test_every_block_is_run_or_says_why_not(name: str) -> None:
    for block in blocks(PAGES[name]):
        runs = block.language in ("console", *PROGRAMS)
        silent = block.language in WITHOUT_COMMANDS and not re.search(r"^\$ ", block.text, re.M)
        assert name not in RUN_ELSEWHERE or block.language != "console"
        assert runs or silent or block.reason, (
            f"{name} has a block that no test runs: make it ```console, with its output, or write "
            f"<!-- not run: REASON --> above it:\n{block.text}"
        )


def test_the_blocks_that_are_not_run() -> None:
    """A new one is added here on purpose."""
    reasons = [(name, b.reason) for name, page in PAGES.items() for b in blocks(page) if b.reason]
    assert reasons == [
        ("README.md", "needs an address; tests/system/test_demo_script.py runs scripts/demo"),
        ("README.md", "needs the network; see tests/system/test_public_database.py"),
        ("README.md", "needs an account; tests/cli/test_setup.py runs `onefs setup`"),
        ("docs/COMMANDS.md", "the changes of a database that changes"),
        ("docs/COMMANDS.md", "for start files of shells; tests/cli/test_completion.py runs them"),
        ("docs/LANGUAGES.md", "needs MATLAB and npy-matlab"),
        ("docs/LANGUAGES.md", "needs MATLAB and npy-matlab"),
        ("docs/tutorial.md", "runs until Ctrl-C; tests/cli/test_demo.py runs it"),
    ]  # fmt: skip
    for _, reason in reasons:
        for path in re.findall(r"tests/[\w/]+\.py", reason):
            assert (ROOT / path).is_file()
