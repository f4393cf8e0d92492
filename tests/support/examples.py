"""The specs of specs/ by their names below it, and what can be run of them without a hand."""

from __future__ import annotations

from tests.support.paths import SPECS

NAMES = sorted(
    str(path.relative_to(SPECS))
    for path in (*SPECS.rglob("*.yaml"), *SPECS.rglob("*.yaml.j2"))
    if path.parent.name not in ("stacks", "values")
)
# What ends by itself, and needs nothing that another spec makes.
_NOT_ALONE = ("service.yaml", "seeds/join.yaml", "seeds/pin.yaml")
# What an ordinary user cannot plan, or not everywhere.
FOR_ROOT = ("limited.yaml", "shared.yaml")
RUNNABLE = [name for name in NAMES if name not in _NOT_ALONE and not name.startswith("network/")]
# A shell on a terminal, which reads what nobody types here.
TERMINALS = ("shell.yaml", "seeds/rootfs.yaml")
