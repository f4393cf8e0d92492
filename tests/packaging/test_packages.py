"""What the built packages hold, and that they install where there is no compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path

import pytest

from nsrun import __version__
from tests.support.paths import PYTHON, ROOT, is_static
from tests.support.requires import requires

NAME = f"nsrun-{__version__}"
SCRIPT = f"{NAME}.data/scripts/nsrun"
_SDIST = "import sys, scikit_build_core.build as b; b.build_sdist(sys.argv[1])"
_EDITABLE = "import sys, scikit_build_core.build as b; b.build_editable(sys.argv[1])"
# CMake asks for the compiler that CC names and for no other.
NO_COMPILER = {"CC": "/nonexistent"}


def run(*words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Standard output of a program that must succeed; nothing of the caller's flags matters."""
    path = os.pathsep.join((str(Path(PYTHON).parent), os.environ.get("PATH", os.defpath)))
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        # pip asks rustc for its version, and rustup makes a folder in HOME: below a file it cannot.
        env={"PATH": path, "HOME": "/dev/null", "LANG": "C.UTF-8", **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def pip(*words: str | Path, env: Mapping[str, str] | None = None) -> str:
    offline = ("--disable-pip-version-check", "--no-cache-dir", "--no-input")
    return run(PYTHON, "-m", "pip", *offline, *words, env=env)


def build_wheel(source: Path, folder: Path, env: Mapping[str, str] | None = None) -> Path:
    options = ("--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir")
    pip("wheel", *options, folder, source, env=env)
    (made,) = folder.glob("*.whl")
    return made


def unpack(sdist: Path, folder: Path) -> Path:
    run("tar", "-xzf", sdist, "-C", folder)
    return folder / NAME


def files(top: Path) -> dict[str, bytes]:
    """The files of a source folder by their names in it."""
    found = (p for p in top.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {str(path.relative_to(top)): path.read_bytes() for path in found}


def below(wheel: Path, folder: str) -> dict[str, bytes]:
    """The same of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(folder)]
        return {name.removeprefix(folder): archive.read(name) for name in names}


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment with one wheel of nsrun and nothing else in it."""

    bin: Path

    @classmethod
    def of(cls, wheel: Path, folder: Path) -> Installed:
        run(PYTHON, "-m", "venv", "--without-pip", folder)
        made = cls(folder / "bin")
        pip("--python", made.bin / "python", "install", "--no-index", "--no-deps", wheel)
        return made

    def __call__(self, program: str, *words: str) -> str:
        return run(self.bin / program, *words, cwd=self.bin)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="module")
def sdist(folder: Path) -> Path:
    run(PYTHON, "-c", _SDIST, folder, cwd=ROOT)
    return folder / f"{NAME}.tar.gz"


@pytest.fixture
def source(sdist: Path, tmp_path: Path) -> Path:
    """The unpacked sdist, to be changed."""
    return unpack(sdist, tmp_path)


@pytest.fixture(scope="module")
def native(sdist: Path, folder: Path) -> Path:
    return build_wheel(sdist, folder / "native")


@pytest.fixture(scope="module")
def fallback(sdist: Path, folder: Path) -> Path:
    return build_wheel(sdist, folder / "fallback", NO_COMPILER)


def test_the_sdist_holds_what_builds_and_tests_it(source: Path) -> None:
    for part in ("bench", "native", "nsrun", "schemas", "docs", "specs", "tests", "tools"):
        assert files(ROOT / part).keys() - files(source / part).keys() == set(), part
    for name in ("CMakeLists.txt", "Makefile", "pyproject.toml", "README.md", "LICENSE"):
        assert (source / name).exists()
    assert [p for p in source.rglob("*") if "__pycache__" in p.parts or p.suffix == ".pyc"] == []


@requires("native_build")
def test_a_wheel_is_of_every_python_and_of_one_machine(native: Path) -> None:
    assert native.name == f"{NAME}-py3-none-linux_{os.uname().machine}.whl"


@pytest.mark.parametrize(
    "kind", [pytest.param("native", marks=requires("native_build")), "fallback"]
)
def test_a_wheel_holds_package_data_and_man_page(
    kind: str, source: Path, request: pytest.FixtureRequest
) -> None:
    wheel = request.getfixturevalue(kind)
    package = below(wheel, "nsrun/")
    expected = files(source / "nsrun")
    expected |= {f"schemas/{name}": data for name, data in files(source / "schemas").items()}
    expected |= {f"errors/{name}": data for name, data in files(source / "docs/errors").items()}
    assert package == expected
    page = below(wheel, f"{NAME}.data/data/")
    assert page == {"share/man/man1/nsrun.1": (source / "docs/nsrun.1").read_bytes()}
    points = ConfigParser()
    points.read_string(below(wheel, f"{NAME}.dist-info/")["entry_points.txt"].decode())
    assert dict(points["console_scripts"]) == {"nsrun-python": "nsrun.cli:main"}


@requires("native_build")
def test_the_command_is_a_static_program(native: Path, tmp_path: Path) -> None:
    assert below(native, SCRIPT)[""].startswith(b"\x7fELF")
    installed = Installed.of(native, tmp_path / "env")
    assert is_static(installed.bin / "nsrun")
    assert installed("nsrun", "--version") == f"nsrun {__version__}\n"
    assert installed("nsrun-python", "--version") == f"nsrun {__version__}\n"


def test_without_a_compiler_the_command_is_python(fallback: Path, tmp_path: Path) -> None:
    assert below(fallback, SCRIPT)[""].startswith(b"#!python\n")
    installed = Installed.of(fallback, tmp_path / "env")
    shebang = (installed.bin / "nsrun").read_text().splitlines()[0]
    assert shebang == f"#!{installed.bin}/python"
    assert installed("nsrun", "--version") == f"nsrun {__version__}\n"
    assert installed("nsrun", "explain", "NS301").startswith("# NS301: ")


@requires("native_build")
def test_sources_a_compiler_refuses_do_not_stop_an_installation(
    source: Path, tmp_path: Path
) -> None:
    (source / "native" / "refused.c").write_text("#error refused\n")
    wheel = build_wheel(source, tmp_path / "wheels")
    assert below(wheel, SCRIPT)[""].startswith(b"#!python\n")


@requires("native_build")
def test_sources_for_fuzzing_are_no_part_of_the_command(source: Path, tmp_path: Path) -> None:
    for name in ("fuzz.c", "fuzz_other.c", "test_other.c"):
        (source / "native" / name).write_text("#error not meant to be built\n")
    wheel = build_wheel(source, tmp_path / "wheels")
    assert below(wheel, SCRIPT)[""].startswith(b"\x7fELF")


def test_an_editable_installation_sees_every_change(source: Path, tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    run(PYTHON, "-c", _EDITABLE, wheels, cwd=source, env=NO_COMPILER)
    (wheel,) = wheels.glob("*.whl")
    assert below(wheel, "nsrun/") == {}
    installed = Installed.of(wheel, tmp_path / "env")
    (source / "nsrun" / "new.py").write_text("print('seen')\n")
    assert installed("python", "-c", "import nsrun.new") == "seen\n"
    # A module that becomes a package, as far as Python sees it the same name elsewhere.
    (source / "nsrun" / "new.py").unlink()
    (source / "nsrun" / "new").mkdir()
    (source / "nsrun" / "new" / "__init__.py").write_text("print('moved')\n")
    assert installed("python", "-c", "import nsrun.new") == "moved\n"
    assert installed("nsrun", "explain", "NS301").startswith("# NS301: ")
    shutil.copy(source / "docs/errors/NS302.md", source / "docs/errors/NS301.md")
    assert installed("nsrun", "explain", "NS301").startswith("# NS302: ")


@requires("native_build")
def test_a_new_launcher_of_a_checkout_takes_the_name_of_the_old(source: Path) -> None:
    launcher = source / ".venv" / "bin" / "nsrun"
    launcher.parent.mkdir(parents=True)
    launcher.write_text("old")
    with launcher.open() as old:
        run(source / "tools" / "native")
        assert old.read() == "old", "a running program's file is not written to"
    assert launcher.read_bytes().startswith(b"\x7fELF")
    before = launcher.stat()
    run(source / "tools" / "native")
    assert launcher.stat().st_ino == before.st_ino, "nothing has changed, nothing is replaced"
    assert os.listdir(launcher.parent) == ["nsrun"]


def test_a_checkout_without_a_compiler_has_a_launcher(source: Path) -> None:
    launcher = source / ".venv" / "bin" / "nsrun"
    launcher.parent.mkdir(parents=True)
    run(source / "tools" / "native", env=NO_COMPILER)
    shebang = launcher.read_text().splitlines()[0]
    assert shebang == f"#!{source}/.venv/bin/python"
    assert os.access(launcher, os.X_OK)


@requires("native_build")
def test_a_checkout_builds_no_launcher_with_warnings(source: Path) -> None:
    (source / "native" / "warned.c").write_text("static int unused;\n")
    (source / ".venv" / "bin").mkdir(parents=True)
    with pytest.raises(AssertionError, match="unused"):
        run(source / "tools" / "native")
    assert os.listdir(source / ".venv" / "bin") == []
