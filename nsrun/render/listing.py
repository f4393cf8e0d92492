"""A plan as a person reads it: what ``nsrun plan`` prints and the golden files hold."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from nsrun.plan.model import Action, Origin, Placed, Plan, Track, UndoWhen
from nsrun.render.lanes import lanes, sent_sync, telling
from nsrun.render.steps import step_text
from nsrun.render.style import Role, Style
from nsrun.render.text import cells, in_ascii, pad_left, plural, shorten, visible

# The column of calls is at most this wide; a longer call pushes its own right column out.
CALL_WIDTH = 84
MIN_CALL_WIDTH = 24
FOOTER_WIDTH = 100
HEADER_WIDTH = 100

_CALL = re.compile(r"\b[a-z][a-z0-9_]*(?=\()")
_TRACKS = {Track.PARENT: Role.PARENT, Track.CHILD: Role.CHILD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a listing before it is aligned. ``placed`` is its (first) step."""

    lanes: str
    placed: Placed
    text: str
    place: str
    why: str


def listing(
    plan: Plan,
    *,
    ascii: bool = False,
    brief: bool = False,
    color: bool = False,
    width: int | None = None,
) -> str:
    """``plan`` as text with a newline at its end.

    ``ascii`` draws the lanes in ASCII, ``brief`` gives one line an action, ``width`` is the
    number of columns to fit into; without it lines are as long as they need to be, and the
    text depends on the plan alone.
    """
    style = Style(color)
    rows = list(_action_rows(plan, ascii) if brief else step_rows(plan, ascii=ascii))
    mark = "..." if ascii else "…"
    body = aligned(rows, style, width, mark)
    lines = [*header(plan, style), "", *body, *_footer(plan, style)]
    text = "\n".join(line.rstrip() for line in lines) + "\n"
    return in_ascii(text) if ascii else text


def header(plan: Plan, style: Style) -> list[str]:
    """What the plan is, what it was made from and what it needs, on two lines or three."""
    counts = {track: len(plan.track(track)) for track in Track}
    syncs = {sync for placed in plan.steps() if (sync := sent_sync(placed)) and sync != "exec"}
    tracks = f"{counts[Track.PARENT]} parent (p), {counts[Track.CHILD]} child (c)"
    steps = f"{plural(sum(counts.values()), 'step')}: {tracks}, {plural(len(syncs), 'sync')}"
    words = ["root"] if plan.needs.root else []
    words += [f"linux >= {plan.needs.kernel}", *plan.needs.features]
    needs = f"needs {visible(', '.join(words))}"
    source = f"spec {visible(plan.source.file)} sha256:{plan.source.sha256[:8]}"
    first = f"plan {style.paint(visible(plan.name), Role.CALL)}    {steps}"
    second = f"{source}    format {plan.format} {plan.needs.machine}"
    if cells(visible(plan.name)) + cells(steps) + cells(needs) <= HEADER_WIDTH:
        return [f"{first}    {needs}", second]
    return [first, second, needs]


# --- rows --------------------------------------------------------------------------------------


def step_rows(plan: Plan, *, ascii: bool) -> Iterator[Row]:
    """One row a step."""
    for placed, drawn in lanes(plan, ascii=ascii):
        yield _row(plan, placed, drawn, step_text(placed.op), ascii)


def _action_rows(plan: Plan, ascii: bool) -> Iterator[Row]:
    """One row an action that has steps: its `what`, and its first step's address."""
    numbers = [number for number, action in enumerate(plan.actions) for _ in action.steps]
    numbered = zip(numbers, lanes(plan, ascii=ascii), strict=True)
    for _, group in itertools.groupby(numbered, key=lambda pair: pair[0]):
        steps = [step for _, step in group]
        placed = steps[0][0]
        drawn = telling([lane for _, lane in steps])
        yield _row(plan, placed, drawn, visible(placed.action.what), ascii)


def _row(plan: Plan, placed: Placed, drawn: str, text: str, ascii: bool) -> Row:
    """A row; in ASCII its words are so before they are aligned."""
    place, why = _where(placed.action.origin, plan)
    if ascii:
        text, place, why = map(in_ascii, (text, place, why))
    return Row(lanes=drawn, placed=placed, text=text, place=place, why=why)


def _where(origin: Origin, plan: Plan) -> tuple[str, str]:
    """The right column: the spec's line and path, ``·`` and the rule that implied it, or both."""
    span = origin.span
    if span is None:
        return "·", visible(origin.rule or origin.path)
    file = "" if span.file == plan.source.file else visible(span.file)
    words = " · ".join(word for word in (origin.path, origin.rule) if word)
    return f"{file}:{span.line}", visible(words)


def aligned(
    rows: list[Row], style: Style, width: int | None = None, mark: str = "…"
) -> Iterator[str]:
    """The rows with their columns below each other; ``mark`` is where ``width`` cuts."""
    if not rows:
        return
    address = max(3, *(len(row.placed.address) for row in rows))
    place = max(cells(row.place) for row in rows)
    right = place + 2 + max(cells(row.why) for row in rows)
    call = min(CALL_WIDTH, max(cells(row.text) for row in rows))
    if width is not None:
        call = max(MIN_CALL_WIDTH, min(call, width - right - address - 10))
    for row in rows:
        text = row.text if width is None else shorten(row.text, call, mark)
        role = _TRACKS[row.placed.track]
        left = f"{row.lanes}  {pad_left(row.placed.address, address)}"
        aside = f"{pad_left(row.place, place)}  {row.why}"
        padding = " " * max(0, call - cells(text))
        painted = _CALL.sub(lambda m: style.paint(m[0], Role.CALL), text, count=1)
        yield f" {style.paint(left, role)}  {painted}{padding}  {style.paint(aside, Role.ASIDE)}"


# --- footer ------------------------------------------------------------------------------------


def _footer(plan: Plan, style: Style) -> list[str]:
    """What is undone, last first: on one line where it fits."""
    items = [
        f"{address} {step_text(op)}{note}"
        for address, action, note in _undone(plan)
        for op in action.undo
    ]
    if not items:
        return []
    title = "undo, last first:"
    line = f"{title}  {'   '.join(items)}"
    if cells(line) <= FOOTER_WIDTH:
        return ["", style.paint(line, Role.ASIDE)]
    return ["", *(style.paint(text, Role.ASIDE) for text in (title, *(f"  {i}" for i in items)))]


def _undone(plan: Plan) -> list[tuple[str, Action, str]]:
    """The actions with undo steps, last first, with the address of their first step."""
    index = dict.fromkeys(Track, 0)
    found = []
    for action in plan.actions:
        if action.undo:
            note = " (on failure)" if action.undo_when is UndoWhen.FAILURE else ""
            found.append((f"{action.track.value[0]}{index[action.track]}", action, note))
        index[action.track] += len(action.steps)
    return found[::-1]
