"""The commands by name: their modules are imported only when they are meant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    import argparse

# What a template is given.
_FORMAT = "[--json | --format text|json]"
_GIVEN = "[--values FILE | --set NAME=VALUE | --env NAME]..."
# A command line that is not understood; the shell's own built-ins give 2 too.
USAGE = 2
# nsrun itself failed where a command's own statuses come through (as env(1), nohup(1) do).
NSRUN_FAILED = 125


class Module(Protocol):
    """What a file of a command holds.

    One whose payload needs no ``--`` has ``payload_at(words) -> int | None`` too: where it begins.
    """

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add its arguments, description and examples; imports nothing a parser does not need."""

    def main(self, args: argparse.Namespace) -> int:
        """Do it; the exit status. Raises NsrunError."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """``failure``: the exit status where it fails; ``usage``: where it is not understood.

    ``synopsis`` is what follows the command's name; ``payload``: ``-- COMMAND...`` may follow;
    ``intermixed``: options may stand among the words of one argument.
    """

    name: str
    summary: str
    synopsis: str
    failure: int = 1
    usage: int = USAGE
    payload: bool = False
    intermixed: bool = False

    def module(self) -> Module:
        import importlib

        return cast(Module, importlib.import_module(f"nsrun.cli.{self.name}"))


RUN = Command(
    name="run",
    summary="run a spec's command in its namespaces (`nsrun SPEC` is the same)",
    synopsis="[-d [--rm] [--replace] [--log-opt KEY=VALUE]...] [--name NAME] [--trace] [--why] "
    f"[--no-cache] {_GIVEN} SPEC [-- COMMAND [ARG...]]",
    failure=NSRUN_FAILED,
    usage=NSRUN_FAILED,
    payload=True,
)

# What the native executor executes in its own place; no help lists it.
OUTCOME = Command(
    name="outcome",
    summary="tell what a native replay came to",
    synopsis="PLAN OUTCOME",
    failure=NSRUN_FAILED,
    usage=NSRUN_FAILED,
)
REPLAY = Command(
    name="replay",
    summary="replay the plan of a detached container",
    synopsis="PLAN MONITOR OPTIONS",
    failure=NSRUN_FAILED,
    usage=NSRUN_FAILED,
)
KEEP = Command(name="keep", summary="keep a stack up", synopsis="STACK LOCK")
WHY = Command(
    name="why", summary="trace a payload's refused calls", synopsis="[--known FILE] REPORT PID"
)
# The words by which nsrun calls itself.
OWN: dict[str, Command] = {
    "@outcome": OUTCOME,
    "@replay": REPLAY,
    "@keep": KEEP,
    "@why": WHY,
}

COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        RUN,
        Command(
            name="up",
            summary="start a stack and keep it up, or change it to what its file says",
            synopsis="[-d | --wait | --exit-code-from NAME] [--dry-run [--json]] [--keep] "
            f"[--profile NAME]... {_GIVEN} SPEC",
        ),
        Command(
            name="down",
            summary="stop and remove a stack's containers and networks",
            synopsis=f"[--volumes] {_GIVEN} STACK",
        ),
        Command(
            name="ps",
            summary="list containers that were left running",
            synopsis=f"[-a] [-q] [--no-trunc] [--filter KEY=VALUE]... {_FORMAT}",
        ),
        Command(
            name="logs",
            summary="print what a container has written",
            synopsis="[-f] [--tail N] [--since WHEN] [--until WHEN] [--timestamps] "
            f"{_FORMAT} CONTAINER",
        ),
        Command(
            name="events",
            summary="print what has happened to containers and stacks, and what happens",
            synopsis=f"[-f] [--since WHEN] [--until WHEN] [--filter KEY=VALUE]... {_FORMAT}",
        ),
        Command(
            name="cp",
            summary="copy files into a running container, or out of it",
            synopsis="[-a] [-L] CONTAINER:PATH|PATH|- CONTAINER:PATH|PATH|-",
        ),
        Command(
            name="verify",
            summary="look whether what a spec expects holds inside",
            synopsis=f"[--plan] [--profile NAME]... {_FORMAT} [--color WHEN] {_GIVEN} SPEC",
            failure=NSRUN_FAILED,
            usage=NSRUN_FAILED,
        ),
        Command(
            name="exec",
            summary="run another command inside a container",
            synopsis="[-i] [-t] [--user USER] [--env NAME[=VALUE]] [--workdir FOLDER] "
            "[--ns KIND,...] [--why] [--plan] CONTAINER [--] COMMAND [ARG...]",
            failure=NSRUN_FAILED,
            usage=NSRUN_FAILED,
            payload=True,
        ),
        Command(
            name="attach",
            summary="join a container's terminal or streams",
            synopsis="[--detach-keys KEYS] [--no-stdin] CONTAINER",
        ),
        Command(
            name="stop",
            summary="end containers in good order",
            synopsis="[--time SECONDS] CONTAINER...",
        ),
        Command(
            name="kill",
            summary="send a signal to containers",
            synopsis="[--signal SIGNAL] CONTAINER...",
        ),
        Command(
            name="start",
            summary="start containers that have ended, by their stored plans",
            synopsis="CONTAINER...",
        ),
        Command(
            name="restart",
            summary="stop containers and start them again",
            synopsis="[--time SECONDS] CONTAINER...",
        ),
        Command(
            name="pause",
            summary="stop every process of containers for a while",
            synopsis="CONTAINER...",
        ),
        Command(
            name="unpause",
            summary="let the processes of paused containers go on",
            synopsis="CONTAINER...",
        ),
        Command(
            name="update",
            summary="change the limits of running containers",
            synopsis="[--memory SIZE] [--memory-swap SIZE] [--pids N] [--cpus N] "
            "[--cpu-weight N] [--cpuset-cpus LIST] [--cpuset-mems LIST] [--plan] CONTAINER...",
        ),
        Command(
            name="wait",
            summary="wait for containers to end, and print their exit statuses",
            synopsis=f"{_FORMAT} CONTAINER...",
        ),
        Command(
            name="rm",
            summary="remove containers that have ended",
            synopsis="[--force] CONTAINER...",
        ),
        Command(
            name="inspect",
            summary="all that is known of containers, as JSON",
            synopsis="[--json] [--plan] CONTAINER...",
        ),
        Command(
            name="drift",
            summary="compare running containers with their plans",
            synopsis=f"{_FORMAT} NAME",
            failure=2,
        ),
        Command(
            name="top",
            summary="list the processes of a container",
            synopsis=f"{_FORMAT} CONTAINER",
        ),
        Command(
            name="stats",
            summary="what running containers use",
            synopsis=f"[--no-stream] {_FORMAT} [CONTAINER...]",
        ),
        Command(
            name="prune",
            summary="remove containers that have ended, and what killed processes have left",
            synopsis=f"[--dry-run] [--force] {_FORMAT}",
        ),
        Command(
            name="generate",
            summary="print a unit of systemd that starts a stack or container at boot",
            synopsis="systemd NAME",
        ),
        Command(
            name="port",
            summary="list a container's published ports",
            synopsis=f"{_FORMAT} CONTAINER [PORT[/PROTOCOL]]",
        ),
        Command(
            name="validate",
            summary="check specs and show everything that is wrong with them",
            synopsis=f"{_FORMAT} {_GIVEN} SPEC...",
        ),
        Command(
            name="plan",
            summary="print the program of system calls that a run would replay",
            synopsis=f"[--brief | --json] [--why] [--ascii] [--color WHEN] {_GIVEN} SPEC|PLAN "
            "[-- COMMAND [ARG...]]",
            payload=True,
        ),
        Command(
            name="render",
            summary="print the YAML that a template comes to",
            synopsis=f"[--lines] {_GIVEN} SPEC",
        ),
        Command(
            name="diff",
            summary="compare two specs or plans by what they do",
            synopsis=f"[--color WHEN] {_GIVEN} OLD NEW",
            failure=2,
        ),
        Command(
            name="graph",
            summary="draw containers and their networks",
            synopsis=f"[--format mermaid|dot|svg] [-o FILE] {_GIVEN} SPEC...",
        ),
        Command(
            name="explain",
            summary="explain an error's code, a value of a spec, or what it leaves open",
            synopsis=f"[CODE | {_GIVEN} --value PLACE SPEC | --security {_FORMAT} SPEC]",
        ),
        Command(
            name="schema",
            summary="print a JSON Schema, for editors and other tools",
            synopsis="[container|stack|plan]",
        ),
        Command(
            name="doctor",
            summary="say what this kernel and user can do, or which lines of a spec they cannot",
            synopsis=f"{_FORMAT} {_GIVEN} [SPEC]",
        ),
        Command(
            name="compile",
            summary="write a program that carries a spec's plan and runs it without Python",
            synopsis=f"{_GIVEN} SPEC -o FILE [-- COMMAND [ARG...]]",
            payload=True,
        ),
        Command(
            name="cache",
            summary="what is kept of earlier runs, or forget it",
            synopsis="[info|clear]",
        ),
        Command(
            name="netns",
            summary="add, list, enter and delete named network namespaces",
            synopsis=f"[--plan] {_FORMAT} add|list|exec|delete [NAME...] [[--] COMMAND [ARG...]]",
            payload=True,
            intermixed=True,
        ),
        Command(
            name="unpin",
            summary="let go of a namespace that a spec pinned on a file",
            synopsis="FILE",
        ),
        Command(
            name="completion",
            summary="print a completion script for a shell",
            synopsis="bash|zsh|fish",
        ),
    )
}
