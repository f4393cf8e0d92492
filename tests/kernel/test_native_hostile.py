"""Plans that no planner makes: the loader refuses them, and no byte outside of one is touched."""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nsrun.kernel import calls
from nsrun.plan import binary, binary_format
from nsrun.plan.model import Plan
from tests.kernel.test_native import replay
from tests.kernel.test_replay_helpers import shell
from tests.support import replays
from tests.support.paths import PYTHON, ROOT
from tests.support.requires import requires

pytestmark = requires("native")


class Edited:
    """The executed part of a plan, to be changed; :meth:`data` has a right checksum."""

    def __init__(self, plan: Plan) -> None:
        data = binary.encode(plan)
        self._data = bytearray(data[: int.from_bytes(data[12:16], "little")])
        self._places: dict[str, int] = {}
        at = 0
        for name, size in binary_format.HEADER_FIELDS:
            self._places[name] = at
            at += size

    def __getitem__(self, field: str) -> int:
        return self.word(self._places[field])

    def __setitem__(self, field: str, value: int) -> None:
        self.set_word(self._places[field], value)

    def word(self, place: int) -> int:
        return int.from_bytes(self._data[place : place + 4], "little")

    def set_word(self, place: int, value: int) -> None:
        struct.pack_into("<I", self._data, place, value)

    def actions(self, track: str) -> list[int]:
        """Where the words of each action of a track begin."""
        found, at = [], self[f"{track}_offset"]
        end = at + self[f"{track}_size"]
        while at < end and self.word(at) & 0xFF == binary_format.WORD_ACTION:
            found.append(at)
            steps = self.word(at + 8)
            at += 16
            for _ in range(steps):
                at += 4 * (self.word(at) >> 8)
        self.behind = at
        return found

    def data(self) -> bytes:
        body = bytes(self._data[binary_format.CHECKED_FROM :])
        struct.pack_into("<Q", self._data, 16, binary_format.checksum(body))
        return bytes(self._data)


def _plan(words: int = 0) -> Plan:
    """A helper, an undo, a command that says `ran`; ``words`` more words in the child's track."""
    more = (calls.rt_sigprocmask(2, 0),) if words else ()
    step = replays.parent(shell("true"), undo=(shell("true"),))
    return replays.command(*more, *replays.exec_("/bin/echo", "ran"), middle=(step,))


def _padded() -> Edited:
    """With a word behind the child's last action that only fills up to 8 bytes."""
    for words in (0, 1):
        edited = Edited(_plan(words))
        edited.actions("child")
        if edited.behind < edited["child_offset"] + edited["child_size"]:
            return edited
    raise AssertionError("no plan has a padded track")


def _as_it_is() -> bytes:
    edited = _padded()
    assert edited.word(edited.behind) == 0
    return edited.data()


def _padding_that_is_an_action() -> bytes:
    """Its other three words would be those of what follows."""
    edited = _padded()
    edited.set_word(edited.behind, binary_format.WORD_ACTION)
    return edited.data()


def _padding_that_is_something() -> bytes:
    edited = _padded()
    edited.set_word(edited.behind, 1)
    return edited.data()


def _more_actions_than_it_says() -> bytes:
    """Each one that is done would be remembered, in room for one."""
    edited = Edited(_plan())
    for track in ("parent", "child"):
        for place in edited.actions(track):
            edited.set_word(place + 4, 0)
    edited["actions"] = 1
    return edited.data()


def _more_steps_than_it_says() -> bytes:
    edited = Edited(_plan())
    edited["child_steps"] -= 1
    return edited.data()


def _an_undo_of_the_child() -> bytes:
    edited = Edited(_plan())
    edited.set_word(edited.actions("child")[0] + 12, 0)
    return edited.data()


def _an_undo_elsewhere() -> bytes:
    edited = Edited(_plan())
    edited.set_word(edited.actions("parent")[0] + 12, edited["undo_size"] // 4)
    return edited.data()


def _bits_of_no_meaning() -> bytes:
    edited = Edited(_plan())
    place = edited.actions("parent")[0]
    edited.set_word(place, edited.word(place) | 1 << 17)
    return edited.data()


def _an_undo_at_no_known_time() -> bytes:
    edited = Edited(_plan())
    place = edited.actions("parent")[0]
    edited.set_word(place, edited.word(place) | 0xF << 8)
    return edited.data()


def _an_heir_of_the_child() -> bytes:
    edited = Edited(_plan())
    place = edited.actions("child")[0]
    edited.set_word(place, edited.word(place) | binary_format.ActionBit.NEW_HEIR)
    return edited.data()


def _too_few_registers() -> bytes:
    edited = Edited(_plan())
    edited["registers"] -= 1
    return edited.data()


def _data_that_ends_in_a_string() -> bytes:
    edited = Edited(_plan())
    edited["data_size"] -= 8
    return edited.data()


HOSTILE: list[Callable[[], bytes]] = [
    _padding_that_is_an_action,
    _padding_that_is_something,
    _more_actions_than_it_says,
    _more_steps_than_it_says,
    _an_undo_of_the_child,
    _an_undo_elsewhere,
    _bits_of_no_meaning,
    _an_undo_at_no_known_time,
    _an_heir_of_the_child,
    _too_few_registers,
    _data_that_ends_in_a_string,
]


def test_the_control_runs() -> None:
    done = replay(_as_it_is(), "-")
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


@pytest.mark.parametrize("make", HOSTILE, ids=lambda make: make.__name__.strip("_"))
def test_it_is_refused_whole(make: Callable[[], bytes]) -> None:
    done = replay(make(), "-")
    assert (done.returncode, done.stdout) == (125, "")
    assert "this is no plan that can be replayed" in done.stderr


# --- the fuzzer's first inputs, and some of its changes ------------------------------------------

_OPTIONS = (
    "-std=gnu11 -g -O1 -Wall -Wextra -Werror -DNSRUN_HOSTED -fsanitize=address,undefined "
    "-fno-sanitize-recover=all"
)
_CHANGES = 1500


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    subprocess.run([PYTHON, "-m", "tools.fuzz_corpus", str(folder)], cwd=ROOT, check=True)
    return folder


def _changed(inputs: list[bytes]) -> list[bytes]:
    """The same in each run: numbers of a plan exchanged, answers of the kernel put behind."""
    chance = random.Random(1)
    found = []
    for _ in range(_CHANGES):
        data = bytearray(chance.choice(inputs))
        for _ in range(chance.choice((0, 1, 3))):
            place = 4 * chance.randrange(6, len(data) // 4 - 1)
            value = chance.choice(
                (0, 1, 0xA0, 0xFF, 1 << 31, (1 << 32) - 1, chance.getrandbits(32))
            )
            struct.pack_into("<I", data, place, value)
        data += bytes(
            chance.choice((0, chance.getrandbits(8))) for _ in range(chance.randrange(300))
        )
        found.append(bytes(data))
    return found


@requires("native_build")
def test_no_byte_outside_is_touched(corpus: Path, tmp_path: Path) -> None:
    """Built with the sanitizers, on a kernel that is none (native/fuzz_kernel.c)."""
    others = ("launch.c", "cached.c", "compiled.c", "monitor", "log.c")
    files = sorted((ROOT / "native").glob("*.c"))
    sources = [str(file) for file in files if not file.name.startswith(others)]
    program = tmp_path / "replay"
    build = ["gcc", *_OPTIONS.split(), f"-I{ROOT / 'native'}", *sources, "-o", str(program)]
    subprocess.run(build, check=True)
    inputs = sorted(corpus.iterdir())
    assert len(inputs) > 300
    for number, make in enumerate(HOSTILE):
        inputs.append(tmp_path / f"hostile{number}")
        inputs[-1].write_bytes(make())
    for number, data in enumerate(_changed([file.read_bytes() for file in inputs])):
        inputs.append(tmp_path / f"changed{number}")
        inputs[-1].write_bytes(data)
    done = subprocess.run(
        [str(program), *inputs], capture_output=True, text=True, errors="replace", check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert len(done.stderr.splitlines()) == len(inputs)
