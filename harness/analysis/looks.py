"""How far a study has come: complete seed blocks, the looks passed, who has left and who goes on.

A look is a barrier: it happens when the first L seeds of every arm still in are final, whoever
finished them in whatever order. At a look an arm leaves when its verdict is better, worse or
equivalent, or when its runs allow no verdict; the others get the seeds up to the next look. Arms leave
whole; an arm that others are compared with stays in for as long as they do.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.standing import Chance, chance_line, complete_blocks, holes, unjudged
from harness.analysis.table import Table, join
from harness.analysis.unpaired import judge_groups, unpaired_reasons
from harness.analysis.verdicts import Judgement, judge
from harness.stats import differences
from harness.study.study import Study
from harness.study.trial import Curve, Metric, Trial


@dataclass(frozen=True, slots=True)
class LookState:
    """How far a study has come.

    Attributes:
        blocks: complete seed blocks, of the arms that were in at the time.
        own: ``{arm: seeds its effect is judged on}``.
        shown: ``{arm: seeds its level is shown on}``, longer for a reference that was kept in.
        reasons: ``{arm: why it gets no verdict}``.
        judgements: ``{arm: verdict on the primary metric}`` of the arms that can; an arm that left keeps what it had.
        stopped: ``{arm: look it left at, from 1}``, for looks before the last.
        reached: looks passed.
        due: seeds that the arms still in must have next, or have had at the end.
        arms_in: arms that must still run, references included; empty when nothing is left to decide.
        withheld: between looks, when the arms still in show neither p nor verdict.
        missing: seeds lost before the last complete block, by arm.
    """

    blocks: tuple[int, ...]
    own: Mapping[str, tuple[int, ...]]
    shown: Mapping[str, tuple[int, ...]]
    reasons: Mapping[str, str]
    judgements: Mapping[str, Judgement]
    stopped: Mapping[str, int]
    reached: int
    due: int
    arms_in: frozenset[str]
    withheld: bool
    missing: Mapping[str, tuple[int, ...]]


def progress(table: Table, line: Chance | None = None) -> LookState:
    """Work out how far the trials of a table have come.

    Args:
        table: joined trials.
        line: scores of a guessing net, from ``harness.analysis.standing.chance_line``.
    """
    if table.study.pairing != "seed":
        return _unpaired(table)
    # a single arm has nothing to be decided at a look
    compared = any(arm.reference for arm in table.arms)
    return _by_looks(table, line) if table.study.looks and compared else _fixed(table, line)


def look_decisions(
    study: Study,
    trials: Sequence[Trial],
    *,
    curves: Mapping[str, Curve] | None = None,
    metrics: Mapping[str, Metric] | None = None,
    classes: int = 0,
    data_fingerprint: str = "",
) -> frozenset[str]:
    """Return the names of the arms that must still run, with the arms they are compared with.

    Before a look is complete these are the arms that went into it; at a look those still undecided;
    empty once nothing is left to decide. Depends on the final records alone, so that every worker
    comes to the same answer.

    Args:
        study: under its profile; without looks its arms are in until every cell is final.
        trials: final records of the cells, in any order.
        curves: epoch histories by cell key, to notice arms that did nothing.
        metrics: metrics beyond the built-in ones.
        classes: number of classes, to notice guessing nets; 0 goes by the name of the data set.
        data_fingerprint: of the images that count.

    Raises:
        StudyError: the study's arms are faulty.
    """
    table = join(
        study, trials, curves=curves or {}, metrics=metrics or {}, data_fingerprint=data_fingerprint
    )
    return progress(table, chance_line(table, classes)).arms_in


def _unpaired(table: Table) -> LookState:
    """Progress of a table whose runs are not paired: every arm on all the runs that it has."""
    names = [arm.name for arm in table.arms]
    own = {n: tuple(s for s in table.seeds if s in table.runs[n]) for n in names}
    reasons = unpaired_reasons(table)
    return LookState(
        blocks=table.seeds,
        own=own,
        shown=own,
        reasons=reasons,
        judgements=judge_groups(table, reasons),
        stopped={},
        reached=0,
        due=len(table.seeds),
        arms_in=frozenset(),
        withheld=False,
        missing={},
    )


def _fixed(table: Table, line: Chance | None) -> LookState:
    names = [arm.name for arm in table.arms]
    # an arm without any trial would leave no whole seed block
    present = [name for name in names if table.of(name)]
    blocks = complete_blocks(table, present, table.seeds) if present else ()
    missing = holes(table, blocks)
    reasons = unjudged(table, blocks, line, missing)
    unfinished = any(seed not in table.runs[name] for name in names for seed in table.seeds)
    return LookState(
        blocks=blocks,
        own=dict.fromkeys(names, blocks),
        shown=dict.fromkeys(names, blocks),
        reasons=reasons,
        judgements=_judge(table, dict.fromkeys(names, blocks), reasons),
        stopped={},
        reached=0,
        due=len(table.seeds),
        arms_in=frozenset(names) if unfinished else frozenset(),
        withheld=False,
        missing=missing,
    )


def _by_looks(table: Table, line: Chance | None) -> LookState:
    names = [arm.name for arm in table.arms]
    own: dict[str, tuple[int, ...]] = {}
    stopped: dict[str, int] = {}
    reasons: dict[str, str] = {}
    judgements: dict[str, Judgement] = {}
    undecided = {arm.name for arm in table.arms if arm.reference}
    inside = with_references(table, undecided)
    blocks: tuple[int, ...] = ()
    shown: dict[str, tuple[int, ...]] = {}

    # Replays the looks in their order from the trials alone: whoever analyses, at whatever time,
    # sees the same arms leave at the same looks.
    reached, looks = 0, table.study.looks
    while reached < len(looks) and undecided:
        due = table.seeds[: looks[reached]]
        now = complete_blocks(table, sorted(inside), due)
        blocks = tuple(sorted({*blocks, *now}, key=table.seeds.index))
        if len(now) < len(due):
            break

        # an arm that left keeps the seeds, and the verdict, that it left with
        reached += 1
        shown.update(dict.fromkeys(inside, due))
        own.update(dict.fromkeys(undecided, due))
        fresh = unjudged(table, due, line, {})
        reasons.update(
            {name: fresh[name] for name in {*undecided, table.arms[0].name} if name in fresh}
        )
        # one Holm family of all arms: those that left bring the p-values they left with
        judged = _judge(table, own, reasons)
        judgements.update({name: judged[name] for name in undecided if name in judged})
        left = _leaving(table, undecided, reasons, judgements)
        stopped.update(dict.fromkeys(left, reached) if reached < len(looks) else {})
        undecided = undecided - left
        inside = with_references(table, undecided)

    over = reached == len(looks) or not undecided
    if not reached:  # before the first look: levels and intervals, no verdict
        shown = dict.fromkeys(names, blocks)
        own = dict.fromkeys(names, blocks)
        reasons = unjudged(table, blocks, line, {})
    return LookState(
        blocks=blocks,
        own={name: own.get(name, ()) for name in names},
        shown={name: shown.get(name, ()) for name in names},
        reasons=reasons,
        judgements=judgements if reached else {},
        stopped=stopped,
        reached=reached,
        due=looks[min(reached, len(looks) - 1)] if not over else looks[max(reached - 1, 0)],
        arms_in=frozenset() if over else inside,
        withheld=not over,
        missing={},
    )


def _leaving(
    table: Table,
    undecided: set[str],
    reasons: Mapping[str, str],
    judgements: Mapping[str, Judgement],
) -> set[str]:
    """The arms that a look settles, or that can never be judged."""
    left = {
        name
        for name in undecided
        if name in reasons or judgements[name].verdict in ("better", "worse", "equivalent")
    }
    # contrasts need every arm at every seed
    together = table.study.design in ("factorial", "fraction")
    return set() if together and left != undecided else left


def with_references(table: Table, undecided: Collection[str]) -> frozenset[str]:
    """Return these arms and every arm that one of them is compared with, directly or through others."""
    references = {arm.name: arm.reference for arm in table.arms}
    needed: set[str] = set()
    waiting = list(undecided)
    while waiting:
        name = waiting.pop()
        if name and name not in needed:
            needed.add(name)
            waiting.append(references[name])
    return frozenset(needed)


def _judge(
    table: Table, own: Mapping[str, tuple[int, ...]], reasons: Mapping[str, str]
) -> dict[str, Judgement]:
    """Judge the arms that can be, as one family, on the primary metric."""
    by_arm: dict[str, list[float]] = {}
    for arm in table.arms:
        if arm.reference and arm.name not in reasons and own.get(arm.name):
            _, scores, reference = table.pairs(
                arm.name, arm.reference, table.study.metric, own[arm.name]
            )
            by_arm[arm.name] = differences(scores, reference).tolist()
    return judge(
        by_arm,
        alpha=table.study.alpha,
        margin=table.margin,
        sign=table.sign,
        looks=table.study.looks,
        boundary=table.study.boundary,
        has_direction=table.primary.higher_is_better is not None,
        family=table.study.family,
    )
