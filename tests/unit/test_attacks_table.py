"""tests/attacks/README.md: every attack that has a name has a test that is there, or a reason."""

from __future__ import annotations

import re

import pytest

from tests.support.attacks_table import collected, merged
from tests.support.paths import ROOT

FOLDER = ROOT / "tests/attacks"
TABLE = (FOLDER / "README.md").read_text()
# The record of what has beaten other runtimes.
_NUMBERS = """
2016-3697 2016-9962 2017-5226 2018-15664 2019-5736 2019-10063 2019-14271 2019-16884 2020-15257
2021-30465 2022-0492 2022-29162 2023-27561 2024-1086 2024-1753 2024-21626 2024-40635 2024-45310
2025-31133 2025-52565 2025-52881 2026-31431 2026-41579 2026-47766 2026-87766
"""
CVES = _NUMBERS.split()
CLASSES = """
mount target; swapped; image `/dev`, `/proc` or `/sys`; mkdir-all;
 `/dev/null` or `/dev/pts/N`; procfs write redirected; leaked
descriptor or cwd; /proc/self/exe; propagation; bind source; libraries loaded from the image;
inheritable capabilities; joining process traced; kept groups; numeric users; TIOCSTI and TIOCLINUX;
bit 32; session keyring; nested user namespaces; AF_PACKET; AF_ALG; release_agent; writable
/proc/sys, /sys, /sys/fs/cgroup; mknod; sysctl smuggling; abstract sockets; x32, i386, new numbers;
/proc/interrupts, thermal, powercap; environment leak; id traversal; pre-created by another user;
cache poisoning; YAML bombs, depth, duplicate keys; template escape; hostile output in logs; pid
reuse; zombies; double-forked tree; crash leaks; control groups; pinned namespace; named network
namespaces; hooks; listener; secrets; volume; hosts files; copying
""".replace("\n", " ").split(";")
ROWS = [line for line in TABLE.splitlines() if line.startswith("| ")]
TESTS = sorted({(m[1] or "", m[2], m[3]) for m in re.finditer(
    r"`(tests/\w+/)?(test_\w+\.py)::(\w+)`", TABLE)})  # fmt: skip


@pytest.mark.parametrize("number", CVES)
def test_every_number_has_a_row(number: str) -> None:
    assert any(f"CVE-{number}" in row and "::" in row for row in ROWS)


@pytest.mark.parametrize("words", [words.strip() for words in CLASSES])
def test_every_class_has_a_row(words: str) -> None:
    assert any(words in row.split("|")[1] and "::" in row for row in ROWS)


@pytest.mark.parametrize(("folder", "file", "name"), TESTS)
def test_every_test_is_there(folder: str, file: str, name: str) -> None:
    path = ROOT / folder / file if folder else FOLDER / file
    assert f"\ndef {name}(" in path.read_text()


def test_every_attack_has_a_control() -> None:
    attacks = TABLE.partition("## Not of both")[0]
    rows = [line for line in attacks.splitlines() if line.startswith("| ") and "::" in line]
    assert len(rows) > 40
    for row in rows:
        _, attack, _, _, _, control, _ = row.split("|")
        assert control.strip(), attack


def test_every_test_of_the_folder_has_a_row() -> None:
    named = {(file, name) for folder, file, name in TESTS if not folder}
    there = {
        (path.name, name)
        for path in FOLDER.glob("test_*.py")
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    assert (
        there - named - {("test_input.py", name) for _, name in there if "naive" in name} == set()
    )


def test_who_runs_a_row_is_what_pytest_collects() -> None:
    """And where that is not both users and both executors, why."""
    found = collected({f"{folder or 'tests/attacks/'}{file}" for folder, file, _ in TESTS})
    both = "root, user; native, python"
    attacks, _, others = TABLE.partition("## Not of both")
    reasons = dict(
        line.strip("| ").split(" | ")
        for line in others.partition("\n## ")[0].splitlines()
        if line.startswith("| ") and not line.startswith("| attack")
    )
    rows = [line.split("|") for line in attacks.splitlines() if line.startswith("| ")]
    partly = set()
    for _, attack, _, tests, runs, _, _ in rows[1:]:
        named = re.findall(r"`(tests/\w+/)?(test_\w+\.py)::(\w+)`", tests)
        kinds = [found[f"{folder or 'tests/attacks/'}{file}", name] for folder, file, name in named]
        assert runs.strip() == str(merged(kinds)), attack
        if runs.strip() != both:
            partly.add(attack.strip())
    assert partly == set(reasons)
