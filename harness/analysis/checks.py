"""What was looked at before a number is believed: each check says ok, warn or fail, what was found, and what to do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import isnan

from harness.analysis.datasets import over_data_sets
from harness.analysis.looks import LookState
from harness.analysis.model import Check, Effect
from harness.analysis.standing import Chance, at_chance
from harness.analysis.table import Table
from harness.analysis.unpaired import fewest_runs, unpaired_check
from harness.analysis.verdicts import FEWEST_PAIRS, FIRM_PAIRS, SAME_ON_EVERY_SEED, TIE
from harness.stats import holm, variance_ratio_p

CONTROL_ALPHA = 0.01  # raw level at which the A/A arm warns: one in a hundred sound studies does
# wall seconds of training for one of the processor, beyond which times are those of a machine with
# other work
BUSY = 1.25
# epochs; shorter runs vary more between seeds than their error rate says (arXiv 2304.01910)
SHORT_RUN = 16
_MOST_NAMED = 6  # arms in a list that says only what is still to come
# of the environment, those that move numbers
_FIELDS = ("harness", "torch", "device", "cpu", "threads", "precision", "engine")


def all_checks(
    table: Table,
    state: LookState,
    *,
    effects: Sequence[Effect],
    line: Chance | None,
    images: int = 0,
    changed: Sequence[str] = (),
    screening: bool = False,
) -> list[Check]:
    """Return every check, in the order in which a reader should take them.

    Args:
        table: joined trials.
        state: how far the study has come.
        effects: of the arms and of the A/A arm.
        line: scores of a guessing net.
        images: validation images that the scores are of; 0 where only the recipe says.
        changed: what of the plan changed after the first trial was claimed.
        screening: whether arms could be stopped by epoch.
    """
    if table.study.table:
        found = _of_table(table, state)
    elif table.study.scripted:
        # else nothing tells no-op arms
        losses = any(run.curve.val_loss or "nll" in run.scores for run in table.all_runs)
        found = [
            *_of_plan(table, state),
            _environments(table),
            *([_nothing(table, state)] if losses else []),
            _variances(table, state),
            _of_script(),
        ]
    else:
        found = [
            *_of_plan(table, state),
            _images(table),
            _environments(table),
            _chance(table, state, line),
            _nothing(table, state),
            _variances(table, state),
        ]
        found += [_test_reads(table), _margin(table, images), _size(table)]
    optional = [
        over_data_sets(table, effects),
        _validation(table),
        _metric(table),
        _control(table, effects),
        _pruned(table),
        _short_runs(table),
        _busy(table),
        _constant(effects),
    ]
    found += [check for check in optional if check is not None]
    if changed:
        hint = "run the study under a new name to have it confirmed"
        what = f"the plan changed after the first trial: {', '.join(changed)}; verdicts are exploratory"
        found.append(Check(level="warn", name="plan changed", what=what, hint=hint))
    if screening:
        what = "this is a screening: arms could be stopped by epoch, nothing is judged"
        found.append(
            Check(
                level="warn",
                name="screening",
                what=what,
                hint="run the arms that are left without --screen",
            )
        )
    order = {"fail": 0, "warn": 1, "ok": 2}
    # stable: the reader's order within a level
    return sorted(found, key=lambda check: order[check.level])


def _of_plan(table: Table, state: LookState) -> list[Check]:
    """Checks of what was planned and what of it is there."""
    return [_baseline(table, state), _seeds(table, state), _missing(table, state), _ended(table)]


def _of_table(table: Table, state: LookState) -> list[Check]:
    """Checks of a table of finished runs, paired or not."""
    if table.study.pairing == "seed":
        found = [*map(_of_rows, _of_plan(table, state)), _variances(table, state)]
    else:
        few = fewest_runs(table, [arm.name for arm in table.arms])
        bad = f"an arm has {_count(few, 'run')}: a verdict needs {FEWEST_PAIRS}"
        bad = bad if few < FEWEST_PAIRS else ""
        runs = _check("runs", bad, ok=f"every arm has {few} runs or more", hint="add runs")
        found = [_of_rows(_baseline(table, state)), unpaired_check(table), runs]
        found.append(_of_rows(_ended(table)))
    if table.study.family:
        what = f"the best of {table.study.family} arms are shown; the correction counts all of them"
        hint = "the best of many are overstated: run them again on fresh seeds"
        found.append(Check(level="warn", name="shown arms", what=what, hint=hint))
    return [*found, _unknown(table)]


def _check(name: str, bad: str, *, hint: str = "", ok: str = "", level: str = "warn") -> Check:
    """A check that is ok when there is nothing bad to tell."""
    return Check.model_validate(
        {
            "level": level if bad else "ok",
            "name": name,
            "what": bad or ok,
            "hint": hint if bad else "",
        }
    )


def _idle(name: str, nothing: str) -> Check:
    """A check that has nothing to look at: it did not pass."""
    hint = "wait until trials have finished, or run the study again: it runs what is missing"
    return Check(level="warn", name=name, what=f"nothing to look at: {nothing}", hint=hint)


def _listed(names: Iterable[str]) -> str:
    """``a, b and c``, sorted, so that the order of arms changes nothing."""
    found = sorted(names)
    return " and ".join([", ".join(found[:-1]), found[-1]]) if len(found) > 1 else "".join(found)


def _verb(names: str, one: str, many: str) -> str:
    """The form of a verb that goes with a list made by `_listed`."""
    return many if " and " in names else one


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _baseline(table: Table, state: LookState) -> Check:
    name = table.arms[0].name
    if not table.count(name, "complete"):
        bad = f"the baseline {name} has no finished trial, so nothing can be compared"
    elif state.reasons.get(name):
        bad = f"the baseline {name} is {state.reasons[name]}: arms that are compared with it get no verdict"
    else:
        bad = ""
    ok = f"{_count(table.count(name, 'complete'), 'trial')} of {name} to compare with"
    return _check(
        "baseline", bad, ok=ok, level="fail", hint="run the study again: it runs what is missing"
    )


def _seeds(table: Table, state: LookState) -> Check:
    base, planned = table.arms[0].name, len(table.seeds)
    others = [arm.name for arm in table.arms[1:]] or [base]

    # A block is over when its trials are, however they ended; a seed counts when it holds a pair.
    whole = [
        seed
        for seed in state.blocks
        if table.status(base, seed) == "complete"
        and any(table.status(arm, seed) == "complete" for arm in others)
    ]
    count = len(whole)
    if count < FEWEST_PAIRS:
        bad, level = (
            f"{_count(count, 'complete seed')}: a verdict needs {FEWEST_PAIRS}",
            "fail" if len(state.blocks) == planned else "warn",
        )
    elif count < FIRM_PAIRS:
        bad, level = (
            f"{_count(count, 'complete seed')}: verdicts are exploratory below {FIRM_PAIRS}",
            "warn",
        )
    else:
        bad, level = "", "warn"
    return _check(
        "seeds",
        bad,
        ok=f"{_count(count, 'complete seed')} of {planned}",
        level=level,
        hint="raise --seeds",
    )


def _missing(table: Table, state: LookState) -> Check:
    """Seeds lost before a complete block fail; blocks that are not there yet, or that a timeout cut off, warn."""
    if state.missing:
        lost = _listed(
            f"{arm} (seed {', '.join(map(str, gap))})" for arm, gap in state.missing.items()
        )
        seeds = sorted({seed for gap in state.missing.values() for seed in gap})
        bad = f"no trial of {lost}; seed {', '.join(map(str, seeds))} is left out for every arm"
        unable = _listed(arm for arm, why in state.reasons.items() if "incomplete" in why)
        bad += f", and {unable} {_verb(unable, 'gets', 'get')} no verdict" if unable else ""
        return _check(
            "missing pairs", bad, level="fail", hint="run the study again: it runs what is missing"
        )
    due = table.seeds[: state.due]
    expected = state.arms_in or {arm.name for arm in table.arms if not table.study.looks}
    short = {arm: sum(seed not in table.runs[arm] for seed in due) for arm in expected}
    waiting = {arm: count for arm, count in short.items() if count}
    bad = ""
    if waiting:
        few = len(waiting) <= _MOST_NAMED
        arms = (
            _listed(f"{arm} ({count})" for arm, count in waiting.items())
            if few
            else _count(len(waiting), "arm")
        )
        left = _count(sum(waiting.values()), "trial")
        bad = f"not finished: {left} to come, of {arms}; only complete seed blocks are analysed"
    hint = "run the study again: it runs what is missing"
    return _check("missing pairs", bad, ok="every seed has a trial of every arm", hint=hint)


def _ended(table: Table) -> Check:
    if not table.trials:
        return _idle("failed trials", "no trial has ended")
    lost = {
        arm.name: (table.count(arm.name, "failed", "diverged"), len(table.of(arm.name)))
        for arm in table.arms
    }
    unstable = _listed(f"{arm} ({count} of {of})" for arm, (count, of) in lost.items() if count)
    diverged = sum(table.count(arm.name, "diverged") for arm in table.arms)
    failed = sum(table.count(arm.name, "failed") for arm in table.arms)
    bad = (
        f"{_count(diverged, 'trial')} diverged and {failed} failed: {unstable} {_verb(unstable, 'gets', 'get')} no verdict"
        if unstable
        else ""
    )
    cures = ["lower schedule.max_lr for what diverged"] * (not table.study.foreign)
    # what diverged is a result: it is not run again
    cures += ["--retry-failed runs failed trials again"] * (failed > 0)
    return _check(
        "failed trials",
        bad,
        ok="no trial failed or diverged",
        level="fail",
        hint="; ".join(cures) or "see at which setting they diverged",
    )


def _images(table: Table) -> Check:
    trials = table.trials
    if not trials:
        return _idle("images", "no trial has ended")
    other = _listed(
        arm.name
        for arm in table.arms
        if any(run.trial.data_fingerprint != table.fingerprint for run in table.of(arm.name))
    )
    if other:
        prints = _listed(
            {trial.data_fingerprint or "unknown" for trial in trials}
            | {table.fingerprint or "unknown"}
        )
        bad = f"the trials ran on different images (fingerprints {prints}): {other} {_verb(other, 'gets', 'get')} no verdict"
        hint = "run the study again with one data set; trials on other images are not reused"
        return _check("images", bad, level="fail", hint=hint)
    bad = (
        f"{_count(table.superseded, 'trial')} left out: on other images, or run again since"
        if table.superseded
        else ""
    )
    return _check("images", bad, ok="all trials saw the same images")


def _environments(table: Table) -> Check:
    trials = table.trials
    if not trials:
        return _idle("environments", "no trial has ended")
    mixed: dict[str, str] = {}
    for field in _FIELDS:
        if field == "precision" and len({trial.recipe.train.precision for trial in trials}) > 1:
            continue  # the study itself varies it
        values = Counter(str(getattr(trial.environment, field)) for trial in trials)
        if len(values) > 1:
            mixed[field] = f"{field} ({_listed(value or 'unknown' for value in values)})"
    bad = ""
    if mixed:
        bad = f"trials ran in different environments: {', '.join(mixed.values())}; {_across(table, tuple(mixed))}"
    return _check(
        "environments",
        bad,
        ok="one environment throughout",
        level="fail" if "engine" in mixed else "warn",
        hint="other hardware rounds otherwise: a pair across it holds that too; times and images a second are not comparable",
    )


def _across(table: Table, fields: Sequence[str]) -> str:
    """In how many seeds an arm and what it is compared with ran in environments that differ in these fields."""
    across: set[int] = set()
    paired: set[int] = set()
    for arm in table.arms:
        for seed, run in table.runs[arm.name].items():
            other = table.runs.get(arm.reference, {}).get(seed)
            if arm.name == arm.reference or other is None:
                continue
            paired.add(seed)
            both = (run.trial.environment, other.trial.environment)
            if any(len({str(getattr(one, field)) for one in both}) > 1 for field in fields):
                across.add(seed)
    if not across:
        return "no pair is across them"
    return f"in {len(across)} of {_count(len(paired), 'seed')} a pair is across them"


def _chance(table: Table, state: LookState, line: Chance | None) -> Check:
    hint = "check the labels, raise schedule.max_lr or train.epochs"
    if line is None:
        return _idle(
            "chance", "the number of classes is unknown, so harness did not look for guessing nets"
        )
    learned = [
        arm.name
        for arm in table.arms
        if any(table.status(arm.name, s) == "complete" for s in state.shown[arm.name])
    ]
    ended = table.trials
    if not learned and any(trial.state in ("diverged", "pruned") for trial in ended):
        what = f"no trial ran to its end: all {len(ended)} were stopped as guessing, diverged or failed; nothing was learned"
        return Check(level="fail", name="chance", what=what, hint=hint)
    if not learned:
        return _idle("chance", "no trial has finished")
    guessing = [name for name in learned if at_chance(table, name, line, state.shown[name])]
    balanced = any("balanced_accuracy" in run.scores for run in table.all_runs)
    what = (
        f"balanced validation accuracy at or below {line.balanced:.1f} %"
        if balanced
        else (f"validation accuracy at or below {line.accuracy:.1f} %")
    )
    if len(guessing) == len(learned):
        bad = f"every arm is at chance ({what}): nothing was learned, nothing is compared"
        return _check("chance", bad, level="fail", hint=hint)
    base = table.arms[0].name
    if base in guessing:
        bad = f"the baseline {base} is at chance ({what}): nothing is judged against it"
        return _check("chance", bad, level="fail", hint=hint)
    bad = f"at chance ({what}): {_listed(guessing)}" if guessing else ""
    ok = "every arm learned something"
    if len(learned) < len(table.arms):
        ok = f"every arm with a finished trial learned something ({len(learned)} of {len(table.arms)} arms)"
    return _check(
        "chance", bad, ok=ok, hint="an arm that does not train says nothing about its component"
    )


def _nothing(table: Table, state: LookState) -> Check:
    if len(table.arms) > 1 and not any(
        _paired(table, arm.name, arm.reference, state) for arm in table.arms if arm.reference
    ):
        return _idle("no-op arms", "no seed has a finished trial of an arm and of its reference")
    idle = _listed(arm for arm, why in state.reasons.items() if why == "did nothing")
    bad = (
        f"{idle} did nothing: same parameters and same losses as the reference on every seed"
        if idle
        else ""
    )
    hint = "the change does not reach the net on these images (hue on grey images, say); it is not evidence of no effect"
    return _check(
        "no-op arms", bad, ok="every arm changed what was computed", level="fail", hint=hint
    )


def _paired(table: Table, arm: str, reference: str, state: LookState) -> bool:
    """Whether an arm and its reference both finished at a seed."""
    return any(
        table.status(arm, seed) == "complete" == table.status(reference, seed)
        for seed in state.own[arm]
    )


def _variances(table: Table, state: LookState) -> Check:
    """Pitman and Morgan's test of each arm against its reference, Holm over arms."""
    names, values = [], []
    for arm in table.arms:
        if arm.reference and arm.name not in state.reasons:
            _, scores, reference = table.pairs(
                arm.name, arm.reference, table.study.metric, state.own[arm.name]
            )
            names.append(arm.name)
            values.append(variance_ratio_p(scores, reference))
    if len(table.arms) > 1 and all(isnan(p) for p in values):
        return _idle("variances", f"no arm that is judged has {FEWEST_PAIRS} pairs")
    adjusted = [float(p) for p in holm(values)]
    unequal = _listed(
        name for name, p in zip(names, adjusted, strict=True) if p < table.study.alpha
    )
    bad = (
        f"{unequal} {_verb(unequal, 'varies', 'vary')} differently between seeds than the reference"
        if unequal
        else ""
    )
    hint = "the paired interval stays valid; a plan that takes one sd for all arms does not"
    return _check(
        "variances",
        bad,
        ok="no arm varies measurably more or less between seeds than the reference",
        hint=hint,
    )


def _test_reads(table: Table) -> Check:
    reads = sum("test_accuracy" in trial.metrics for trial in table.trials)
    decided = table.study.metric.startswith("test")
    ok = "the test set was not read"
    if reads:
        every = reads == sum(trial.state == "complete" for trial in table.trials)
        each = "a finished trial" if every else "for each trial whose test score is shown"
        ok = f"the test set was read {_count(reads, 'time')}, once {each}; nothing was chosen by it"
    if reads and table.study.without_validation:
        ok = "the test set was read after every epoch, to draw the curves; nothing was chosen by it"
    bad = (
        f"the test set decides this study and was read {_count(reads, 'time')}: nothing may be chosen by it"
        if decided
        else ""
    )
    hint = "decide on validation images, and keep the test set for the last figure"
    return _check("test-set reads", bad, ok=ok, hint=hint)


def _margin(table: Table, images: int) -> Check:
    """A set that brings validation images of its own has its own number of them, whatever the recipe asks for."""
    images = images or table.arms[0].recipe.data.val
    grain = 100.0 / images if images else 0.0
    bad = ""
    if table.primary.unit == "pp" and grain > table.study.margin_pp:
        bad = f"the margin of {table.study.margin_pp:g} pp is less than one of {images} validation images"
    return _check(
        "margin",
        bad,
        ok=f"margin {table.margin:g} {table.primary.unit}",
        hint="raise margin_pp or data.val",
    )


def _size(table: Table) -> Check:
    """An arm that also changes the model's size is confounded with it."""
    sizes = {
        arm.name: max((run.trial.params for run in table.of(arm.name)), default=0)
        for arm in table.arms
    }
    if not sizes[table.arms[0].name] or (
        len(table.arms) > 1 and sum(map(bool, sizes.values())) < 2
    ):
        return _idle(
            "model size", "the number of parameters is not known of the baseline and another arm"
        )
    base = sizes[table.arms[0].name]
    ratios = {arm: size / base for arm, size in sizes.items() if size and base}
    changed = _listed(
        f"{arm} ({ratio:.2f} x)" for arm, ratio in ratios.items() if abs(ratio - 1) > 0.01
    )
    bad = f"the number of parameters differs from the baseline's: {changed}" if changed else ""
    hint = "the effect is that of the component and of the size together"
    return _check("model size", bad, ok="every arm has the baseline's size", hint=hint)


def _validation(table: Table) -> Check | None:
    if not table.study.without_validation:
        return None
    what = "data.val is 0, so that the test set drew the curves and nothing is judged"
    return Check(
        level="fail",
        name="validation",
        what=what,
        hint="keep validation images with data.val to have verdicts",
    )


def _metric(table: Table) -> Check | None:
    trials = [trial for trial in table.trials if trial.state == "complete"]
    if not trials or any(table.study.metric in trial.metrics for trial in trials):
        return None
    carried = _listed({name for trial in trials for name in trial.metrics}) or "none"
    bad = f"no trial carries the metric {table.study.metric} that decides (they carry: {carried})"
    return Check(
        level="fail", name="metric", what=bad, hint="set `metric` to one that the trials carry"
    )


def _control(table: Table, effects: Sequence[Effect]) -> Check | None:
    found = [
        effect
        for effect in effects
        if effect.kind == "control" and effect.metric == table.study.metric
    ]
    if not table.study.control:
        return None
    if not found or found[0].p is None:
        return Check(
            level="warn",
            name="A/A arm",
            what="the A/A arm has too few finished trials to be tested",
        )
    effect = found[0]
    rate = "1 in 100 sound studies shows this by chance"
    comparison = f"baseline against itself at other seeds: {effect.estimate:+.2f} {effect.unit}, p = {effect.p:.3g}, n = {effect.n}"
    bad = (
        f"the A/A arm is not null ({comparison}); {rate}"
        if effect.p is not None and effect.p < CONTROL_ALPHA
        else ""
    )
    hint = "something besides the seed differs between trials: look for shared state, order of runs, or mixed machines"
    return _check(
        "A/A arm", bad, ok=f"{comparison}; warns below {CONTROL_ALPHA}, where {rate}", hint=hint
    )


def _pruned(table: Table) -> Check | None:
    stopped = {
        arm.name: [run.trial.epochs for run in table.of(arm.name, "pruned")] for arm in table.arms
    }
    listed = _listed(
        f"{arm} (epoch {min(epochs)}, {_count(len(epochs), 'seed')})"
        for arm, epochs in stopped.items()
        if epochs
    )
    if not listed:
        return None
    what = f"stopped early and shown as censored, without an estimate: {listed}"
    return Check(
        level="warn",
        name="pruned trials",
        what=what,
        hint="a stopped arm is not ranked among the others",
    )


def _of_rows(check: Check) -> Check:
    """A check of a table's rows: what is amiss there is put right there, and not run by this program."""
    return (
        check.model_copy(update={"hint": "add or repair those rows, and analyse the table again"})
        if check.hint
        else check
    )


def _unknown(table: Table) -> Check:
    """What a table of finished runs leaves open, so that a reader does not take it for looked at."""
    what = f"{table.study.table} does not tell which images, machines, model sizes and test-set reads lie behind its rows"
    hint = "pairs are sound when every arm of a seed had the same images, split and code"
    return Check(level="warn", name="not in the table", what=what, hint=hint)


def _of_script() -> Check:
    """What a script leaves open, so that a reader does not take it for looked at."""
    what = "the script loads its own images, split and test set; harness did not check that every arm gets the same ones"
    hint = "pairs are sound when every arm of a seed has the same images, split and random draws"
    return Check(level="warn", name="left to the script", what=what, hint=hint)


def _short_runs(table: Table) -> Check | None:
    epochs = table.arms[0].recipe.train.epochs
    if epochs > SHORT_RUN or table.study.foreign:
        return None
    what = f"runs of {epochs} epochs: seeds vary more than the error rate says in runs of {SHORT_RUN} epochs or fewer"
    return Check(
        level="warn",
        name="short runs",
        what=what,
        hint="take the sd from finished trials, not from the plan's guess",
    )


def _busy(table: Table) -> Check | None:
    """Whether trials of one thread had the processor to themselves; None where that was not measured."""
    ratios: dict[str, float] = {}
    for arm in table.arms:
        timed = [run.trial for run in table.of(arm.name) if run.trial.readings.get("cpu_seconds")]
        if timed and all(trial.environment.threads == 1 for trial in timed):
            ratios[arm.name] = sum(t.train_seconds for t in timed) / sum(
                t.readings["cpu_seconds"] for t in timed
            )
    if not ratios:
        return None
    worst = max(ratios, key=lambda name: ratios[name])
    ratio = f"training took up to {ratios[worst]:.2f} times its processor time ({worst})"
    bad = (
        f"{ratio}: other programs used the processor too, so the arms' seconds are hard to compare"
        if ratios[worst] > BUSY
        else ""
    )
    hint = (
        "accuracies are not affected; for times, run on an idle machine, or compare processor times"
    )
    return _check("busy machine", bad, ok=f"{ratio}: seconds of arms can be compared", hint=hint)


def _constant(effects: Sequence[Effect]) -> Check | None:
    sentences = []
    same = _listed(effect.term for effect in effects if SAME_ON_EVERY_SEED in effect.note)
    tied = _listed(effect.term for effect in effects if TIE in effect.note)
    if same:
        sentences.append(
            f"{same} {_verb(same, 'differs', 'differ')} from the reference by the same amount on every seed"
        )
    if tied:
        sentences.append(f"{tied} {_verb(tied, 'ties', 'tie')} with the reference on every seed")
    if not sentences:
        return None
    what = f"{' and '.join(sentences)}, which leaves nothing to test with"
    return Check(
        level="warn", name="no variance", what=what, hint="use more validation images or more seeds"
    )
