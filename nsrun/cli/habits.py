"""What people type who know Docker and compose, and what it is here."""

from __future__ import annotations

import re

_SPEC = "the spec says it: `{}`"
_IN_SPEC = {
    "-i": _SPEC.format("stdin: open"),
    "--interactive": _SPEC.format("stdin: open"),
    "-t": _SPEC.format("tty: true"),
    "--tty": _SPEC.format("tty: true"),
    "-e": _SPEC.format("env: {NAME: value}"),
    "--env-file": _SPEC.format("env_file: ./FILE"),
    "-v": _SPEC.format("mounts: [{type: bind, source: ./FROM, target: /TO}]"),
    "--volume": _SPEC.format("mounts: [{type: bind, source: ./FROM, target: /TO}]"),
    "--mount": _SPEC.format("mounts: [{type: bind, source: ./FROM, target: /TO}]"),
    "-p": _SPEC.format('network: {ports: ["8080:80"]}'),
    "--publish": _SPEC.format('network: {ports: ["8080:80"]}'),
    "-u": _SPEC.format("user: UID:GID"),
    "--user": _SPEC.format("user: UID:GID"),
    "-w": _SPEC.format("cwd: /FOLDER"),
    "--workdir": _SPEC.format("cwd: /FOLDER"),
    "-h": _SPEC.format("hostname: NAME"),
    "--hostname": _SPEC.format("hostname: NAME"),
    "-m": _SPEC.format("resources: {memory: 512m}"),
    "--memory": _SPEC.format("resources: {memory: 512m}"),
    "--cpus": _SPEC.format("resources: {cpus: 1.5}"),
    "--pids-limit": _SPEC.format("resources: {pids: 100}"),
    "--cap-add": _SPEC.format("capabilities: {add: [NET_ADMIN]}"),
    "--cap-drop": _SPEC.format("capabilities: {drop: [NET_RAW]}"),
    "--network": _SPEC.format("network: {...}"),
    "--init": _SPEC.format("init: true"),
    "--read-only": _SPEC.format("rootfs: {path: ./ROOT, readonly: true}"),
    "--restart": "a stack's container has `restart: always`: nsrun up",
    "--privileged": "nothing is given whole: `capabilities: {add: [...]}` in the spec",
}
_JQ = "templates are jq's: nsrun {} --json | jq ..."
_UP = {
    "--build": "a `rootfs` is a folder, and nothing is built",
    "--pull": "a `rootfs` is a folder, and nothing is fetched",
    "--force-recreate": "bring it down first: nsrun down STACK",
    "--no-deps": "a single container is started again by `nsrun restart NAME`",
    "--scale": "write `replicas: N` in the stack",
    "-t": "write `stop_timeout: 3s` in the stack",
    "--timeout": "write `stop_timeout: 3s` in the stack",
    "-f": "the file stands alone: nsrun up FILE",
    "--file": "the file stands alone: nsrun up FILE",
    "-p": "write `name: NAME` in the stack",
}
_OPTIONS: dict[str, dict[str, str]] = {
    "run": _IN_SPEC,
    "up": _UP,
    "down": {
        "-t": "write `stop_timeout: 3s` in the stack",
        "--timeout": "write `stop_timeout: 3s` in the stack",
        "-f": "the file stands alone: nsrun down FILE",
        "--rmi": "there are no images",
    },
    "ps": {
        "-l": "nsrun ps -a --json | jq 'max_by(.created)'",
        "--latest": "nsrun ps -a --json | jq 'max_by(.created)'",
        "-s": "a container writes into its rootfs: du -s ROOTFS",
        "--size": "a container writes into its rootfs: du -s ROOTFS",
    },
    "exec": {
        "-d": "put `&` behind the command",
        "--detach": "put `&` behind the command",
        "--privileged": "it has the container's rights, and no others",
        "--env-file": "give each: -e NAME=VALUE",
    },
    "rm": {
        "-v": "volumes are a stack's: nsrun down --volumes STACK",
        "--volumes": "volumes are a stack's: nsrun down --volumes STACK",
        "-l": "there are no links",
    },
    "stop": {
        "-s": "write `stop_signal` in the spec, or nsrun kill -s SIGNAL NAME",
        "--signal": "write `stop_signal` in the spec, or nsrun kill -s SIGNAL NAME",
        "-a": "nsrun ps -q | xargs nsrun stop",
    },
    "start": {
        "-a": "nsrun start NAME && nsrun attach NAME",
        "--attach": "nsrun start NAME && nsrun attach NAME",
        "-i": "nsrun start NAME && nsrun attach NAME",
    },
    "logs": {"--details": "labels are in `nsrun inspect NAME`"},
    "inspect": {"-f": _JQ.format("inspect NAME"), "--format": _JQ.format("inspect NAME")},
    "top": {"-o": "nsrun exec NAME -- ps ..."},
    "prune": {"--filter": "remove them by name: nsrun rm NAME", "-a": "it removes all that ended"},
}
_OPTIONS["restart"] = {k: _OPTIONS["stop"][k] for k in ("-s", "--signal")}
_COMMANDS = {
    "build": "nothing is built: `rootfs` names a folder",
    "compose": "nsrun up SPEC, nsrun down STACK, nsrun ps, nsrun logs NAME",
    "container": "without that word: nsrun ps, nsrun rm NAME, nsrun inspect NAME",
    "create": "nsrun run -d SPEC, or nsrun up -d SPEC",
    "help": "nsrun --help, nsrun COMMAND --help",
    "docker": "without that word: nsrun ps, nsrun run -d SPEC",
    "image": "there are no images: `rootfs` names a folder",
    "images": "there are no images: `rootfs` names a folder",
    "ls": "nsrun ps",
    "network": "networks are a stack's; alone: nsrun netns",
    "pull": "there are no images: `rootfs` names a folder",
    "rename": "nsrun rm NAME, and nsrun run -d --name NEW SPEC",
    "system": "nsrun prune, nsrun events, nsrun doctor",
    "volume": "volumes are a stack's: nsrun down --volumes STACK",
}
_TEMPLATE = re.compile(r"invalid choice: '[^']*\{\{")
_CLUSTERED = re.compile(r"ignored explicit argument '(\w+)'\Z")
_CLUSTER = re.compile(r"-[A-Za-z]{2,}\Z")


def of_option(command: str, message: str) -> str:
    """What to write in the place of an option that argparse did not understand, "" for others."""
    known = _OPTIONS.get(command, {})
    if _TEMPLATE.search(message):
        return _JQ.format(command)
    clustered = _CLUSTERED.search(message)
    if clustered is not None:
        words = [f"-{letter}" for letter in clustered[1]]
    elif message.startswith("unrecognized arguments: "):
        words = message.removeprefix("unrecognized arguments: ").split(" ")
    else:
        return ""
    for word in words:
        found = known.get(word.partition("=")[0])
        if found is None and _CLUSTER.match(word):
            found = next((known[f"-{c}"] for c in word[1:] if f"-{c}" in known), None)
        if found is not None:
            return found
    return ""


def of_command(word: str) -> str:
    """What is meant by a command that there is not, "" for others."""
    return _COMMANDS.get(word, "")
