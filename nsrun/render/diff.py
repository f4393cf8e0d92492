"""The difference of two plans as text, in the manner of a Terraform plan."""

from __future__ import annotations

from collections.abc import Iterator

from nsrun.plan.diff import Change, Kind, PlanDiff
from nsrun.render.steps import step_text
from nsrun.render.style import Role, Style
from nsrun.render.text import cells, pad, visible

_MARKS = {
    Kind.ADDED: ("+", Role.ADDED),
    Kind.REMOVED: ("-", Role.REMOVED),
    Kind.CHANGED: ("~", Role.CHANGED),
    Kind.MOVED: (">", Role.CHANGED),
}
WHAT_WIDTH = 60


def render_diff(found: PlanDiff, color: bool = False) -> str:
    """``found`` as text with a newline at its end; ``no difference`` where there is none."""
    if found.same:
        return "no difference\n"
    style = Style(color)
    names = [visible(name) for name in dict.fromkeys((found.old_name, found.new_name))]
    lines = [f"plan {' -> '.join(style.paint(name, Role.CALL) for name in names)}", ""]
    for setting in found.settings:
        mark, role = _MARKS[Kind.CHANGED]
        values = f"{setting.old or '-'} -> {setting.new or '-'}"
        lines.append(f"{style.paint(mark, role)} {setting.name}: {visible(values)}")
    if found.settings:
        lines.append("")
    width = max((cells(visible(c.action.what)) for c in found.changes), default=0)
    for change in found.changes:
        lines += _change(change, min(width, WHAT_WIDTH), style)
    if found.changes:
        lines.append("")
    lines.append(summary(found))
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _change(change: Change, width: int, style: Style) -> Iterator[str]:
    mark, role = _MARKS[change.kind]
    action = change.action
    what = pad(visible(action.what), width)
    place = style.paint(visible(action.origin.path or action.origin.rule), Role.ASIDE)
    yield f"{style.paint(mark, role)} {action.track.value:<6}  {what}  {place}"
    if change.old and change.new and change.old.what != change.new.what:
        yield f"    (was: {visible(change.old.what)})"
    for step in change.steps:
        mark, role = _MARKS[step.kind]
        undo = "undo: " if step.undo else ""
        yield f"    {style.paint(f'{mark} {undo}{step_text(step.op)}', role)}"
    if change.when:
        before, after = (when.value for when in change.when)
        yield f"    {style.paint(f'~ undone at: {before} -> {after}', Role.CHANGED)}"


def summary(found: PlanDiff) -> str:
    """``1 to add, 2 to change, 0 to remove``, and what moves where something does."""
    words = [
        f"{found.count(Kind.ADDED)} to add",
        f"{found.count(Kind.CHANGED)} to change",
        f"{found.count(Kind.REMOVED)} to remove",
    ]
    if moved := found.count(Kind.MOVED):
        words.append(f"{moved} to move")
    return ", ".join(words)
