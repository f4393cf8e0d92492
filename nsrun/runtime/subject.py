"""What a preflight looks at: a spec, the facts of machine and caller, and its plan, if any."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from errno import errorcode

from nsrun.diag import Diagnostic, Severity
from nsrun.kernel.abi import Capability, CloneFlag
from nsrun.kernel.facts import Facts
from nsrun.plan.launch import CLONE_FLAGS
from nsrun.plan.model import Plan
from nsrun.spec.model import NamespaceType, Spec

Problems = Iterator[Diagnostic]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """``plan`` is None where the spec cannot be planned here."""

    spec: Spec
    facts: Facts
    plan: Plan | None

    @property
    def privileged(self) -> bool:
        return Capability.CAP_SYS_ADMIN in self.facts.permitted

    @property
    def user_flag(self) -> int:
        """CLONE_NEWUSER where the spec makes one."""
        return int(CloneFlag.CLONE_NEWUSER) if self.spec.new(NamespaceType.USER) else 0

    @property
    def new_flags(self) -> int:
        """The CLONE_NEW flags of all that the spec makes."""
        return sum(int(CLONE_FLAGS[n.type]) for n in self.spec.namespaces if not n.joined)

    @property
    def may_try(self) -> bool:
        """Whether the caller may make namespaces as the spec wants them at all."""
        return self.privileged or bool(self.user_flag)

    def problem(
        self,
        code: str,
        summary: str,
        at: str,
        *,
        why: tuple[str, ...] = (),
        help: tuple[str, ...] = (),
        errno: int = 0,
        severity: Severity = Severity.ERROR,
    ) -> Diagnostic:
        return Diagnostic(
            code=code,
            summary=f"{summary}: {os.strerror(errno)}" if errno else summary,
            severity=severity,
            span=self.spec.span(at),
            path=at,
            errno=errorcode.get(errno, ""),
            why=why,
            help=help,
        )
