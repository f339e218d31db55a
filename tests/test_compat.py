"""``python -m onefs.compat``: old scripts run with their own import lines."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from onefs.demo.servers import Servers
from onefs.demo.synthetic import SyntheticLaboratory
from tests.laboratories import account
from tests.one.tutorial_text import blocks
from tests.running import clean_environment


def run(
    folder: Path,
    *arguments: str,
    python: tuple[str, ...] = (),
    variables: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m onefs.compat ARGUMENTS``, or another command of Python, in ``folder``."""
    command = python or ("-m", "onefs.compat")
    return subprocess.run(
        [sys.executable, *command, *arguments],
        env=clean_environment(folder, **(variables or {})),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


#: a script about its own surroundings
ABOUT = """
import sys, neighbour
if __name__ == "__main__":
    print(sys.argv, __file__, neighbour.NAME, sys.modules["__main__"].__dict__ is globals())
    sys.exit(int(sys.argv[1]))
"""


def test_a_script_has_its_arguments_neighbours_and_exit_code(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "about.py").write_text(ABOUT)
    (tmp_path / "scripts" / "neighbour.py").write_text("NAME = 'here'")
    script = os.path.join("scripts", "about.py")
    done = run(tmp_path, script, "7", "-m", "--x")
    assert done.returncode == 7
    assert done.stdout == f"['{script}', '7', '-m', '--x'] {script} here True\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    "source", ["def f():\n    return 1 / 0\n\nf()\n", "x = = 1\n", "raise SystemExit('bye')\n"]
)
def test_a_failure_looks_as_without_onefs(tmp_path: Path, source: str) -> None:
    (tmp_path / "fails.py").write_text(source)
    without = run(tmp_path, "fails.py", python=("-B",))
    done = run(tmp_path, "fails.py")
    assert done.returncode == without.returncode == 1
    name = str(tmp_path / "fails.py")
    assert done.stderr.replace('"fails.py"', f'"{name}"') == without.stderr.replace(
        '"fails.py"', f'"{name}"'
    )


def test_a_missing_script_is_one_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, "nosuch.py")
    reason = "cannot be opened: No such file or directory"
    assert (done.returncode, done.stderr) == (2, f"onefs: the script nosuch.py {reason}\n")
    done = run(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m onefs.compat SCRIPT")


def test_code_and_modules_run_too(tmp_path: Path) -> None:
    code = "import sys; from oneibl.one import ONE; print(__name__, sys.argv, ONE.__module__)"
    done = run(tmp_path, "-c", code, "a")
    assert done.stdout == "__main__ ['-c', 'a'] oneibl.one\n", done.stderr
    (tmp_path / "mine.py").write_text(code)
    done = run(tmp_path, "-m", "mine", "b")
    assert done.stdout == f"__main__ ['{tmp_path / 'mine.py'}', 'b'] oneibl.one\n", done.stderr


def test_installed_packages_win(tmp_path: Path) -> None:
    (tmp_path / "ibllib").mkdir()
    (tmp_path / "ibllib" / "__init__.py").write_text("")
    (tmp_path / "oneibl.py").write_text("NAME = 'theirs'")
    code = (
        "import onefs.compat, oneibl; print(oneibl.NAME)\n"
        "try:\n    import ibllib.misc\nexcept ModuleNotFoundError as error:\n    print(error)"
    )
    done = run(tmp_path, code, python=("-c",))
    assert done.stdout == "theirs\nNo module named 'ibllib.misc'\n", done.stderr


def test_an_unknown_name_is_an_import_error(tmp_path: Path) -> None:
    code = "import onefs.compat\nfrom ibllib.misc import structarr"
    done = run(tmp_path, code, python=("-c",))
    assert "cannot import name 'structarr' from 'ibllib.misc'" in done.stderr


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_processes_of_a_script_have_the_old_modules(tmp_path: Path, method: str) -> None:
    (tmp_path / "many.py").write_text(f"""
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from oneibl.one import ONE

def name(again):
    if not again:
        return ONE.__module__
    with ProcessPoolExecutor(1, multiprocessing.get_context("{method}")) as pool:
        return pool.submit(name, again - 1).result(60)

if __name__ == "__main__":
    print(name(2))
""")
    done = run(tmp_path, "many.py")
    assert (done.returncode, done.stdout) == (0, "oneibl.one\n"), done.stderr


def test_no_secret_of_the_server_in_the_script_is_sent_to_another(tmp_path: Path) -> None:
    (tmp_path / "old.py").write_text("""
from oneibl.one import ONE
one = ONE(
    base_url="https://other.example",
    username="them",
    token="SECRET",
    data_username="them",
    data_password="SECRET",
    data_hosts="https://other.example",
)
print(len(one.search(subject="clns0730")) > 0, one._settings)
""")
    with Servers(SyntheticLaboratory()) as servers:
        done = run(tmp_path, "old.py", variables={**account(servers), "ONEFS_DEADLINE": "60"})
        sent = [str(each) for each in servers.requests]
    assert done.stdout.startswith("True"), done.stderr
    assert "other.example" not in done.stdout
    assert not any("SECRET" in each for each in sent)


def test_the_tutorial_is_a_script_that_runs_unchanged(tmp_path: Path) -> None:
    script = tmp_path / "tutorial.py"
    script.write_text("\n".join(block.code for block in blocks()[:6]))
    with Servers(SyntheticLaboratory()) as servers:
        done = run(tmp_path, "tutorial.py", variables={**account(servers), "ONEFS_DEADLINE": "60"})
    assert done.returncode == 0, done.stderr
    assert '"cf264653-2deb-44cb-aa84-89b82507028a"' in done.stdout
    said = "the script names the database https://test.alyx.internationalbrainlab.org"
    assert f"{said}: ONEFS_URL is used" in done.stderr
