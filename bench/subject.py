"""The nsrun that is measured, and the ways in which it starts the container."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench import installed
from bench.area import Area, BenchError
from bench.hyper import Contestant

WARM, COLD, NO_CACHE = "nsrun, warm", "nsrun, cold", "nsrun --no-cache"
PYTHON, COMPILED = "nsrun, Python executor", "nsrun, compiled spec"
# A start through Python takes a hundred times as long as one without.
SLOW_RUNS, SLOW_WARMUP = 5, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Nsrun:
    """``native``: the program is no script, so a cached plan needs no Python."""

    program: Path
    area: Area
    native: bool
    options: str

    @property
    def env(self) -> Mapping[str, str]:
        return {"XDG_CACHE_HOME": str(self.area.folder / "xdg")}

    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.env}

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.program), *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment(),
        )

    def forget(self) -> tuple[str, ...]:
        """A command that empties the caches: the area's own, whoever nsrun runs as."""
        xdg = self.area.sub("xdg")
        return ("find", str(self.area.cache), str(xdg), "-mindepth", "1", "-delete")

    def entries(self) -> int:
        """How many files the cache has."""
        folders = (self.area.cache, self.area.sub("xdg"))
        return sum(path.is_file() for folder in folders for path in folder.rglob("*"))


def find(program: Path | None, area: Area) -> Nsrun:
    """``program``: None for this checkout's, installed. Raises BenchError."""
    program = program.resolve() if program is not None else installed.install(area)
    if not os.access(program, os.X_OK):
        raise BenchError(f"no program {program}")
    native = program.read_bytes()[:4] == b"\x7fELF"
    said = subprocess.run([str(program), "run", "--help"], capture_output=True, text=True)
    return Nsrun(program=program, area=area, native=native, options=said.stdout)


def starts(nsrun: Nsrun, spec: Path) -> list[Contestant]:
    """The container of ``spec`` in every way that this nsrun has."""
    program, file = str(nsrun.program), str(spec)
    no_cache = "" if "--no-cache" in nsrun.options else "this nsrun has no --no-cache"
    uncached = (program, "run", "--no-cache", file)
    return [
        warm(nsrun, spec),
        _slow(Contestant(name=COLD, argv=(program, file), env=nsrun.env, prepare=nsrun.forget())),
        _slow(Contestant(name=NO_CACHE, argv=uncached, env=nsrun.env, missing=no_cache)),
        _slow(
            Contestant(
                name=PYTHON,
                argv=(program, file) if no_cache else uncached,
                env={**nsrun.env, "NSRUN_EXECUTOR": "python"},
            )
        ),
        _compiled(nsrun, spec),
    ]


def warm(nsrun: Nsrun, spec: Path) -> Contestant:
    argv = (str(nsrun.program), str(spec))
    contestant = Contestant(name=WARM, argv=argv, env=nsrun.env)
    return contestant if nsrun.native else _slow(contestant)


def _slow(contestant: Contestant) -> Contestant:
    return replace(contestant, runs=SLOW_RUNS, warmup=SLOW_WARMUP)


def _compiled(nsrun: Nsrun, spec: Path) -> Contestant:
    made = nsrun.area.folder / "compiled"
    done = nsrun.run("compile", str(spec), "-o", str(made))
    missing = "" if done.returncode == 0 and made.exists() else "this nsrun compiles no specs"
    return Contestant(name=COMPILED, argv=(str(made),), missing=missing)


def id_map(nsrun: Nsrun, spec: Path) -> tuple[int, int, int]:
    """The id map that the plan of ``spec`` gives the container; its peers get the same."""
    done = nsrun.run("plan", "--json", str(spec))
    if done.returncode:
        raise BenchError(f"nsrun cannot plan {spec}: {done.stderr.strip()}")
    return find_map(json.loads(done.stdout))


def find_map(plan: object) -> tuple[int, int, int]:
    """The first text in a plan that is a line of uid_map(5): three numbers and a newline."""
    for text in _texts(plan):
        words = text.split()
        if text.endswith("\n") and len(words) == 3 and all(w.isdigit() for w in words):
            container, host, size = map(int, words)
            return container, host, size
    raise BenchError("the plan writes no id map")


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [text for item in value for text in _texts(item)] if isinstance(value, list) else []
