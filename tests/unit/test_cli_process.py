"""The process around a command: its descriptors, its signals, its ids, its locale."""

from __future__ import annotations

import ast
import errno
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from nsrun.cli import process
from tests.support.paths import PYTHON, ROOT
from tests.support.requires import requires

NSRUN = [PYTHON, "-P", "-m", "nsrun"]
ENV = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}


def shell(script: str, *args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run ``script``, in which ``"$@"`` is nsrun with ``args``."""
    return subprocess.run(
        ["/bin/bash", "-c", script, "bash", *NSRUN, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=30,
        env={**ENV, **env},
        check=False,
    )


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "a.yaml"
    path.write_text("command: [/bin/true]\n")
    return path


def test_closed_descriptors_are_opened_again() -> None:
    script = """
        "$@" --version <&- || exit 1
        "$@" --version >&- || exit 2
        "$@" explain NS000 2>&-; [ $? = 2 ] || exit 3
        "$@" --version <&- >&- 2>&- || exit 4
    """
    done = shell(script)
    assert (done.returncode, done.stdout) == (0, "nsrun 0.1.0\n"), done.stderr


def test_no_file_takes_the_place_of_a_closed_descriptor(tmp_path: Path, spec: Path) -> None:
    script = """
        import os, sys
        from nsrun.cli import process
        process.open_standard_descriptors()
        first = os.open(sys.argv[1], os.O_RDONLY)
        os.write(int(sys.argv[2]), repr((first, os.readlink("/proc/self/fd/0"))).encode())
    """
    report = tmp_path / "report"
    with report.open("wb") as stream:
        subprocess.run(
            [
                "/bin/bash",
                "-c",
                'exec "$@" <&-',
                "bash",
                PYTHON,
                "-c",
                "\n".join(line.removeprefix(" " * 8) for line in script.splitlines()),
                str(spec),
                str(stream.fileno()),
            ],
            check=True,
            env=ENV,
            pass_fds=(stream.fileno(),),
        )
    first, stdin = ast.literal_eval(report.read_text())
    assert first > 2
    assert stdin == "/dev/null"


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = shell('"$@" schema | head -c 1; echo ":${PIPESTATUS[0]}"')
    # A pipe that takes the whole schema before its reader goes away is no error at all.
    assert done.stdout in ("{:141\n", "{:0\n")
    assert done.stderr == ""


def test_a_reader_that_is_gone_before_the_end() -> None:
    done = shell('"$@" --version | true; exit ${PIPESTATUS[0]}')
    assert done.returncode in (0, 141)
    assert done.stderr == ""


@pytest.mark.parametrize("words", [("--version",), ("schema",)])
def test_a_full_disk_is_an_error(words: tuple[str, ...]) -> None:
    done = shell('"$@" > /dev/full', *words)
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "at fault" not in done.stderr


def test_errors_that_cannot_be_written_do_no_harm() -> None:
    assert shell('"$@" validate /nonexistent 2> /dev/full').returncode == 1


def test_an_interrupt_ends_it_as_signals_do(tmp_path: Path) -> None:
    fifo = tmp_path / "stdin"
    os.mkfifo(fifo)
    writer = os.open(fifo, os.O_RDWR)
    with (
        open(fifo, encoding="utf-8") as stdin,
        subprocess.Popen(
            [*NSRUN, "validate", "-"],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENV,
        ) as process,
    ):
        _wait_until_it_reads(process.pid)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    os.close(writer)
    assert process.returncode == -signal.SIGINT
    assert (out, err) == ("", "")


def _wait_until_it_reads(pid: int) -> None:
    """Until the process sleeps in a read."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        words = Path(f"/proc/{pid}/syscall").read_text().split()
        # proc_pid_syscall(5): read(2) is number 0 on x86_64, 63 on aarch64.
        if words[0] in ("0", "63"):
            return
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    pytest.fail("it never read its standard input")


@requires("root")
@pytest.mark.parametrize("option", ["--euid", "--egid"])
def test_another_users_rights_are_refused(option: str) -> None:
    done = shell(f'exec setpriv {option} 65534 --clear-groups -- "$@"', "--version")
    assert done.returncode == 125
    assert done.stdout == ""
    assert done.stderr.startswith("error[NS402]: nsrun does not run with the set-user-ID")


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1", "nonsense"])
def test_any_locale_prints_any_name(locale: str, tmp_path: Path) -> None:
    path = tmp_path / "überraschung-\udcff.yaml"
    path.write_text("command: [/bin/true]\nnonsense: ü●\n", encoding="utf-8")
    for variables in ({"LC_ALL": locale}, {"LC_ALL": locale, "PYTHONCOERCECLOCALE": "0"}):
        done = shell('"$@"', "validate", path, **variables)
        assert done.returncode == 1
        assert "unknown key `nonsense`" in done.stderr
        assert "fault" not in done.stderr


def test_colour_is_for_terminals(tmp_path: Path, spec: Path) -> None:
    spec.write_text("nonsense: 1\n")
    assert "\x1b" not in shell('"$@"', "validate", spec).stderr
    on_terminal = ["script", "-qec", " ".join([*NSRUN, "validate", str(spec)]), "/dev/null"]

    def typed(**env: str) -> str:
        done = subprocess.run(
            on_terminal,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**ENV, "TERM": "xterm", **env},
            check=False,
            timeout=30,
        )
        return done.stdout

    assert "\x1b[1;31merror" in typed()
    assert "\x1b" not in typed(NO_COLOR="1")
    assert "\x1b" not in typed(TERM="dumb")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "there is not enough memory"),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "cannot go on: Too many open files"),
    ],
)
def test_what_the_caller_limits_is_no_fault_of_nsruns(error: Exception, said: str) -> None:
    found = process.fault(error)
    assert found.summary == said
    assert "ulimit" in found.help[0]
    assert "report" not in found.help[0]
