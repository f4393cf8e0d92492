"""The pages of docs/errors that show what an error looks like show what is really printed."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

import pytest

from nsrun.cli import start
from nsrun.cli import verify as cli_verify
from nsrun.diag import CODES, Diagnostic, NsrunError
from nsrun.host import native
from nsrun.kernel import calls
from nsrun.kernel.facts import CgroupFolder, Cgroups, Facts, PathFact, SubIds
from nsrun.kernel.facts import Kind as PathKind
from nsrun.kernel.values import Call, Reg, Str
from nsrun.plan import build, verify
from nsrun.plan.codec import loads
from nsrun.plan.model import MEMORY_LIMIT, Placed, Plan
from nsrun.plan.ops import Spawn
from nsrun.render.diagnostic import render
from nsrun.render.failure import Explain, no_explanation, outcome_diagnostics
from nsrun.replay.outcome import Failure, Kind, Outcome, UndoFailure
from nsrun.runtime import (
    ceilings,
    compiled,
    launch,
    life,
    stack,
    stack_copy,
    stack_member,
    store,
    why,
)
from nsrun.runtime import verify as look
from nsrun.runtime.store import Container
from nsrun.spec.load import load
from nsrun.spec.model import NamespaceType
from nsrun.spec.stack_load import load_stack
from tests.support import plans
from tests.support.paths import ROOT

PAGES = ROOT / "docs" / "errors"
BLOCK = re.compile(r"^```(\w+)(?: ([^\n]*))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = "web.yaml"

ALL = frozenset(kind.value for kind in NamespaceType)
ROOT_FACTS = Facts(
    kernel="6.1.0",
    machine="x86_64",
    uid=0,
    gid=0,
    permitted=frozenset(range(41)),
    bounding=frozenset(range(41)),
    subuid=(SubIds(start=100000, size=65536),),
    subgid=(SubIds(start=100000, size=65536),),
    newuidmap="/usr/bin/newuidmap",
    newgidmap="/usr/bin/newgidmap",
    namespaces=ALL,
    paths=MappingProxyType({}),
    targets=MappingProxyType({"/mnt": PathFact(kind=PathKind.FOLDER)}),
)
USER_FACTS = dataclasses.replace(
    ROOT_FACTS, uid=1000, gid=1000, groups=(1000,), user_name="ann", permitted=frozenset()
)
NO_TIME_FACTS = dataclasses.replace(ROOT_FACTS, namespaces=ALL - {"time"})


def blocks(code: str) -> dict[str, str]:
    """The fenced blocks of a page by their language and the word after it."""
    text = (PAGES / f"{code}.md").read_text(encoding="utf-8")
    return {f"{m[1]} {m[2] or ''}".strip(): m[3] for m in BLOCK.finditer(text)}


# --- scenes ------------------------------------------------------------------------------------


def planned(facts: Facts) -> Plan:
    """The plan of the page's spec, which stands in the working directory beside ``data``."""
    spec, _ = load(FILE)
    data = {str(Path.cwd() / "data"): PathFact(kind=PathKind.FOLDER)}
    return build.plan(spec, dataclasses.replace(facts, paths=MappingProxyType(data)))


def refused(facts: Facts) -> tuple[Diagnostic, ...]:
    with pytest.raises(NsrunError) as caught:
        planned(facts)
    return caught.value.diagnostics


def unknown_user() -> tuple[Diagnostic, ...]:
    return refused(dataclasses.replace(ROOT_FACTS, passwd="root:x:0:0::/:/bin/sh\n"))


def step(plan: Plan, wanted: Callable[[Placed], bool]) -> Placed:
    return next(placed for placed in plan.steps() if wanted(placed))


def is_call(name: str, text: str = "") -> Callable[[Placed], bool]:
    """Whether a step is this system call, with ``text`` in one of its strings."""

    def wanted(placed: Placed) -> bool:
        op = placed.op
        if not isinstance(op, Call) or op.name != name:
            return False
        return not text or any(isinstance(a, Str) and text in a.value for a in op.args)

    return wanted


def failed(
    plan: Plan,
    placed: Placed,
    kind: Kind,
    *,
    status: int = 125,
    errno: int = 0,
    value: int = 0,
    text: str = "",
    explain: Explain = no_explanation,
) -> tuple[Diagnostic, ...]:
    failure = Failure(
        track=placed.track, index=placed.index, kind=kind, errno=errno, value=value, text=text
    )
    return outcome_diagnostics(plan, Outcome(status=status, failure=failure), explain)


def unsound() -> tuple[Diagnostic, ...]:
    action = plans.parent("close it", plans.implied("example"), calls.close(Reg("rootfs")))
    with pytest.raises(NsrunError) as caught:
        verify.verify(plans.make_plan(action))
    return tuple(d for d in caught.value.diagnostics if "rootfs" in d.summary)


def unreadable() -> tuple[Diagnostic, ...]:
    text = blocks("NS406")["json"]
    Path("plan.json").write_text(text, encoding="utf-8")
    with pytest.raises(NsrunError) as caught:
        loads(text, file="plan.json")
    return caught.value.diagnostics


def unbindable(
    call: str, errno: str, args: tuple[str | int, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    assert (call, errno, args[1]) == ("open_tree", "EINVAL", str(Path.cwd() / "data"))
    why = f"{args[1]} is an unbindable mount (mount 412 in /proc/self/mountinfo)"
    tip = f"mount --make-private {args[1]}, or bind a folder above it without `recursive`"
    return (why,), (tip,)


def at_fault() -> tuple[Diagnostic, ...]:
    plan = planned(ROOT_FACTS)
    text = "register %chan was never set"
    return failed(plan, step(plan, is_call("sethostname")), Kind.INTERNAL, text=text)


def bind_fails() -> tuple[Diagnostic, ...]:
    plan = planned(ROOT_FACTS)
    placed = step(plan, is_call("open_tree", "/data"))
    return failed(plan, placed, Kind.ERRNO, errno=22, explain=unbindable)


def child_ends() -> tuple[Diagnostic, ...]:
    plan = planned(ROOT_FACTS)
    return failed(plan, step(plan, is_call("sethostname")), Kind.ENDED, value=137)


def helper_fails() -> tuple[Diagnostic, ...]:
    plan = planned(USER_FACTS)
    placed = step(plan, lambda p: isinstance(p.op, Spawn))
    words = "newuidmap: uid range [1-65537) -> [100000-165536) not allowed"
    return failed(plan, placed, Kind.SPAWN, value=1, text=words)


def undo_fails() -> tuple[Diagnostic, ...]:
    plan = planned(ROOT_FACTS)
    unmounts = (
        UndoFailure(action=number, step=index, what=action.what, kind=Kind.ERRNO, errno=16)
        for number, action in enumerate(plan.actions)
        for index, op in enumerate(action.undo)
        if isinstance(op, Call) and op.name == "umount2"
    )
    return outcome_diagnostics(plan, Outcome(status=125, undo_failures=(next(unmounts),)))


def out_of_memory() -> tuple[Diagnostic, ...]:
    folder = CgroupFolder(path="/sys/fs/cgroup/memory")
    groups = Cgroups(v1=MappingProxyType({"memory": folder}))
    facts = dataclasses.replace(ROOT_FACTS, cgroups=groups)
    plan = planned(facts)
    watches = (
        UndoFailure(action=number, step=0, what=action.what, kind=Kind.EXPECT, value=ord("1"))
        for number, action in enumerate(plan.actions)
        if action.what.startswith(MEMORY_LIMIT)
    )
    killed = Outcome(
        status=137, started=True, signal=signal.SIGKILL, undo_failures=(next(watches),)
    )
    return outcome_diagnostics(plan, killed)


def ended_by_its_filter() -> tuple[Diagnostic, ...]:
    ended = Outcome(status=159, started=True, signal=signal.SIGSYS)
    return outcome_diagnostics(planned(ROOT_FACTS), ended)


def held_by_another() -> tuple[Diagnostic, ...]:
    folder = CgroupFolder(path="/sys/fs/cgroup", controllers=frozenset({"memory"}))
    facts = dataclasses.replace(ROOT_FACTS, cgroups=Cgroups(v2=folder))
    with pytest.MonkeyPatch.context() as patch:
        jobs = ("/sys/fs/cgroup/jobs", 64 << 20)
        patch.setattr("nsrun.host.ceilings.lowest", lambda *_: jobs)
        return tuple(ceilings.warnings(planned(facts)))


def interrupted() -> tuple[Diagnostic, ...]:
    plan = planned(ROOT_FACTS)
    return outcome_diagnostics(plan, Outcome(status=130, interrupted=True, signal=signal.SIGINT))


def command_fails(errno: int, status: int) -> tuple[Diagnostic, ...]:
    plan = planned(ROOT_FACTS)
    return failed(plan, step(plan, is_call("execve")), Kind.ERRNO, errno=errno, status=status)


def times_out() -> tuple[Diagnostic, ...]:
    outcome = Outcome(status=143, started=True, timed_out=True)
    return outcome_diagnostics(planned(ROOT_FACTS), outcome)


def drops_signal() -> tuple[Diagnostic, ...]:
    outcome = Outcome(status=137, started=True, signal=9, dropped_signal=signal.SIGTERM)
    return outcome_diagnostics(planned(ROOT_FACTS), outcome)


def not_to_be_carried() -> tuple[Diagnostic, ...]:
    spec, _ = load(FILE)
    with pytest.raises(NsrunError) as caught:
        compiled.compile_spec(spec, "nsrun")
    return caught.value.diagnostics


def no_native() -> tuple[Diagnostic, ...]:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(NsrunError) as caught:
        patch.setattr(sys, "prefix", str(Path.cwd() / ".venv"))
        native.choice({"NSRUN_EXECUTOR": "native"})
    return caught.value.diagnostics


def not_in_memory() -> tuple[Diagnostic, ...]:
    def refuse(_name: str, _flags: int) -> int:
        raise PermissionError(13, os.strerror(13))

    with pytest.MonkeyPatch.context() as patch, pytest.raises(NsrunError) as caught:
        patch.setattr(os, "memfd_create", refuse)
        Path(FILE).write_text("command: [id]\n")
        launch.become_sealed(planned(ROOT_FACTS), None)
    return caught.value.diagnostics


def container(*, ended: bool) -> Container:
    record = store.Record(
        id="ab" * 32,
        name="web",
        spec=str(Path.cwd() / FILE),
        sha256="",
        command=("httpd",),
        created=1,
    )
    status = store.Status.EXITED if ended else store.Status.RUNNING
    return Container(record=record, folder=str(Path.cwd() / "none"), status=status)


def no_container() -> tuple[Diagnostic, ...]:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(NsrunError) as caught:
        patch.setattr(store, "everything", lambda: [container(ended=False)])
        store.find("wep")
    return caught.value.diagnostics


def name_taken() -> tuple[Diagnostic, ...]:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(NsrunError) as caught:
        patch.setattr(store, "folder", lambda: str(Path.cwd()))
        patch.setattr(store, "load", lambda place: container(ended=True))
        Path("web").mkdir()
        store.claim("web")
    return caught.value.diagnostics


def not_running() -> tuple[Diagnostic, ...]:
    return life.not_running(container(ended=True)).diagnostics


def changed_since() -> tuple[Diagnostic, ...]:
    return (start.changed(container(ended=True).record),)


def waits_in_vain() -> tuple[Diagnostic, ...]:
    Path(FILE).write_text(blocks("NS609")["yaml stack"], encoding="utf-8")
    made, _ = load_stack(FILE)
    found: list[Diagnostic] = []
    kept = stack.Supervisor(stack=made, say=lambda *_: None, report=found.extend)
    kept.kept = {m.spec.name: stack_member.Kept(member=m) for m in made.members}
    kept.kept["shop-db"].state, kept.kept["shop-db"].status = stack_member.State.EXITED, 1
    with pytest.MonkeyPatch.context() as patch, pytest.raises(stack.Failed):
        patch.setattr(store, "folder", lambda: str(Path.cwd()))
        patch.setattr(store, "log_files", lambda place: iter(()))
        kept._is_up()
    return tuple(found)


def cannot_be_copied() -> tuple[Diagnostic, ...]:
    Path(FILE).write_text(blocks("NS622")["yaml stack"], encoding="utf-8")
    made, _ = load_stack(FILE)
    return tuple(stack_copy.refusals(made, made, "/volumes"))


def does_not_hold() -> tuple[Diagnostic, ...]:
    spec, _ = load(FILE)
    why = "a folder can be made in it"
    place = "expect.read_only[0]"
    finding = look.Finding(path=place, what="read_only /tmp", holds=False, why=why)
    return (cli_verify.diagnostic(spec, finding),)


def expects_nothing() -> tuple[Diagnostic, ...]:
    spec, _ = load(FILE)
    with pytest.raises(NsrunError) as caught:
        look.plan_of(spec)
    return caught.value.diagnostics


def traced_under_yama() -> tuple[Diagnostic, ...]:
    spec, _ = load(FILE)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(NsrunError) as caught:
        patch.setattr("nsrun.host.procfs.sysctl", lambda _: 1)
        patch.setattr("nsrun.host.procfs.capabilities", frozenset)
        why.traced_plan(spec)
    return caught.value.diagnostics


SCENES: dict[str, Callable[[], tuple[Diagnostic, ...]]] = {
    "NS003": at_fault,
    "NS317": unknown_user,
    "NS401": lambda: refused(NO_TIME_FACTS),
    "NS402": lambda: refused(USER_FACTS),
    "NS403": lambda: refused(USER_FACTS),
    "NS404": lambda: refused(ROOT_FACTS),
    "NS405": unsound,
    "NS406": unreadable,
    "NS407": not_to_be_carried,
    "NS408": no_native,
    "NS409": lambda: refused(USER_FACTS),
    "NS410": lambda: refused(USER_FACTS),
    "NS411": not_in_memory,
    "NS412": traced_under_yama,
    "NS413": held_by_another,
    "NS501": bind_fails,
    "NS502": child_ends,
    "NS503": helper_fails,
    "NS504": undo_fails,
    "NS505": interrupted,
    "NS601": lambda: command_fails(2, 127),
    "NS602": lambda: command_fails(13, 126),
    "NS603": times_out,
    "NS604": drops_signal,
    "NS605": no_container,
    "NS606": name_taken,
    "NS607": not_running,
    "NS608": changed_since,
    "NS609": waits_in_vain,
    "NS610": out_of_memory,
    "NS611": ended_by_its_filter,
    "NS620": does_not_hold,
    "NS621": expects_nothing,
    "NS622": cannot_be_copied,
}
# What a mended spec is planned with, where the caller is not root on a full kernel.
MENDED_FACTS = {"NS401": NO_TIME_FACTS, "NS402": USER_FACTS, "NS403": USER_FACTS}
MENDED = sorted(code for code in SCENES if "yaml mended" in blocks(code))


def unnumbered(text: str) -> str:
    """Without the numbers of steps: a plan may grow without its errors changing."""
    return re.sub(r"step \d+ of \d+ \([pc]\d+\)", "step N of N (xN)", text)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that is /home/ann in the pages."""
    monkeypatch.chdir(tmp_path)
    for name in ("data", "rootfs"):
        (tmp_path / name).mkdir()
    return tmp_path


# --- tests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_page_of_its_name(code: str) -> None:
    text = (PAGES / f"{code}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {code}: {CODES[code]}\n\n")
    assert text.endswith("\n") and not text.endswith("\n\n")
    assert blocks(code)


def test_every_page_is_of_a_code() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} == set(CODES)


def test_planning_and_replay_have_scenes() -> None:
    # NS317 is of the checks by its number, but only a plan sees the rootfs's own files.
    assert set(SCENES) == {"NS003", "NS317", *(code for code in CODES if code[2] in "456")}
    assert {"NS317", "NS401", "NS402", "NS403", "NS404", "NS601", "NS604"} <= set(MENDED)


@pytest.mark.parametrize("code", CODES)
def test_what_only_a_plan_refuses_has_a_scene(code: str) -> None:
    """The other examples of the checks are read by tests/unit/test_spec_docs.py."""
    assert "yaml plan" not in blocks(code) or code in SCENES


@pytest.mark.parametrize("code", SCENES)
def test_the_page_shows_what_is_printed(code: str, home: Path) -> None:
    found = blocks(code)
    for example in {"yaml", "yaml plan"} & found.keys():
        Path(FILE).write_text(found[example], encoding="utf-8")
    diagnostics = SCENES[code]()
    assert [d.code for d in diagnostics] == [code]
    printed = render(diagnostics).replace(str(home), "/home/ann")
    assert unnumbered(found["text"]) == unnumbered(printed)


@pytest.mark.parametrize("code", MENDED)
@pytest.mark.usefixtures("home")
def test_the_mended_spec_is_planned(code: str) -> None:
    Path(FILE).write_text(blocks(code)["yaml mended"], encoding="utf-8")
    assert planned(MENDED_FACTS.get(code, ROOT_FACTS)).actions


@pytest.mark.parametrize("code", ["NS002", "NS111", "NS321"])
def test_the_page_of_a_command_line(code: str, home: Path) -> None:
    (home / "web.yaml.j2").write_text("command: [sh]\n")
    found = blocks(code)
    (home / "web.yaml").write_text(found.get("yaml mended", ""))
    words = found["sh"].split()
    assert words[0] == "nsrun"
    done = subprocess.run(
        [sys.executable, "-m", "nsrun", *words[1:]],
        cwd=home,
        env={"PYTHONPATH": str(ROOT), "PATH": os.defpath},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert done.stderr == found["text"]


def test_the_json_of_the_page_is_json() -> None:
    assert json.loads(blocks("NS406")["json"])["format"] == 1
