"""A run from a template is as warm as any: its plan depends on what it was rendered from."""

from __future__ import annotations

import pytest

from tests.kernel.test_template import PARTS, write
from tests.support.box import Box, give
from tests.support.launcher import Launcher
from tests.support.requires import requires

pytestmark = requires("native", "busybox", "strace")


@pytest.fixture
def executor() -> str:
    """The cache is the native launcher's; `""`: what nsrun chooses."""
    return ""

OTHER = "namespaces: [user, uts]\nhostname: three\ncommand: 'hostname; echo a'\n"


class Warm:
    """A template run by the installed launcher, and what makes it think again."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.file = write(box)
        self.launcher = Launcher(box)
        self.words = (self.file, "--values", box.folder / "values.yaml", "--env", "WORD")

    def run(self, word: str = "a") -> tuple[list[str], bool]:
        """The first two lines, and whether Python was asked."""
        runner = self.box.as_(env={"WORD": word}).runner
        lines = self.launcher.run(*self.words, runner=runner).ok().splitlines()
        return lines[:2], self.launcher.thought


@pytest.fixture
def warm(box: Box) -> Warm:
    made = Warm(box)
    assert made.run() == (["one", "a"], True)
    assert made.run() == (["one", "a"], False)
    return made


def test_a_variable_that_changes(warm: Warm) -> None:
    assert warm.run("b") == (["one", "b"], True)
    assert warm.run("b") == (["one", "b"], False)


@pytest.mark.parametrize(
    ("name", "text", "printed"),
    [
        ("values.yaml", "name: two\nfolders: [/tmp]\n", "two"),
        ("parts.j2", PARTS.replace("size={{", "mode=0700,size={{"), "one"),
        ("extra.j2", "domainname: x\n", "one"),
        ("web.yaml.j2", "namespaces: [user, uts]\nhostname: three\ncommand: 'hostname; echo a'\n",
         "three"),
    ],
)  # fmt: skip
def test_a_file_that_changes(warm: Warm, name: str, text: str, printed: str) -> None:
    """Also one that was looked for and not there before."""
    (warm.box.folder / name).write_text(text)
    give(warm.box.folder, warm.box.runner)
    assert warm.run() == ([printed, "a"], True)
    assert warm.run() == ([printed, "a"], False)


def test_other_values_are_another_entry(warm: Warm) -> None:
    before = warm.words
    warm.words = (*before, "--set", "name=two")
    assert warm.run() == (["two", "a"], True)
    assert warm.run() == (["two", "a"], False)
    warm.words = before
    assert warm.run() == (["one", "a"], False)
