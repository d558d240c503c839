"""Tables of finished runs that somebody else's program made, read as a study with its trials.

``sources`` reads the files; here the rows become runs: which arm, which seed, what it scored. Arms
are known by the names in the table; seeds pair the runs, on one data set or on several. Where
there are no seeds to pair by, arms are compared as groups. What is assumed or left out is said in
the notes.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import numpy.typing as npt

from harness.analysis import unpaired
from harness.analysis.cells import NumberColumn, numbers, seed_numbers, some
from harness.analysis.datasets import reading_on
from harness.analysis.score_unit import ScoreUnit, direction, score_unit
from harness.analysis.sources import FILE, TableSource, read_source
from harness.analysis.sources.frame import places, text_of
from harness.analysis.table import gap_name
from harness.analysis.table_options import Columns, TableOptions, options_of
from harness.analysis.table_rows import arm_names, check_columns, chosen, key_texts, melted
from harness.errors import ReportError, RowsError, UsageError, did_you_mean
from harness.study.recipe import Recipe, digest
from harness.study.study import HandArm, Study
from harness.study.trial import Metric, Trial
from harness.text import plural

if TYPE_CHECKING:
    import pandas as pd

_MOST_ARMS = (
    1_000  # more make a family in which nothing small can be found, and a page nobody reads
)
_MOST_SEEDS = 10_000  # as many as a study may have


@dataclass(frozen=True, slots=True)
class Runs:
    """A table of finished runs, ready for analysis.

    Attributes:
        study: made from the table; design ``arms``.
        trials: one a run; of a table of means one an arm.
        metrics: the column that decides, with unit and direction.
        seeds: of the table, in order.
        notes: what the source is, and what was assumed or left out, a sentence each.
    """

    study: Study
    trials: tuple[Trial, ...]
    metrics: Mapping[str, Metric]
    seeds: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunRows:
    """One row a run.

    Attributes:
        name: of the source, for messages.
        frame: columns ``arm``, ``seed``, ``dataset`` (texts), ``score`` and, where asked for, ``train``, ``gap``, ``sd`` and
            ``n`` (numbers; nan where a run diverged), and the places of the rows.
        percent: whether a score has a percent sign.
        metric: name of the score as the report calls it.
        notes: what was left out.
    """

    name: str
    frame: pd.DataFrame
    percent: bool
    metric: str
    notes: tuple[str, ...]

    @property
    def arms(self) -> list[str]:
        """Names of the arms in the order of the table."""
        return list(self.frame["arm"].unique())


def read_runs(source: Path | str | Sequence[Path | str], **columns: Unpack[Columns]) -> Runs:
    """Read a table of finished runs as a study with its trials.

    Args:
        source: a file, folder, glob, pattern of paths or Optuna storage, or several of them.
        columns: as ``harness.analysis.table_options.TableOptions`` describes them; ``arm``,
            ``metric``, ``baseline`` and ``margin`` are needed.

    Raises:
        ReportError: the table is unreadable, or does not say what is needed; the hint says what to
            change.
        UsageError: an argument has no meaning here.
    """
    options = options_of(columns)
    sources = [source] if isinstance(source, (str, Path)) else list(source)
    return runs_of(read_source(sources), options)


def runs_of(source: TableSource, options: TableOptions) -> Runs:
    """Turn the rows of a source into a study with its trials; arguments and errors as ``read_runs`` has them."""
    if options.missing:
        raise UsageError(
            f"{', '.join(f'--{name}' for name in options.missing)}: not given",
            "`harness analyze SOURCE` alone lists the columns and proposes a command",
        )
    lower, told_direction = direction(
        source.name, options.metric, lower_is_better=options.lower_is_better
    )
    rows = _run_rows(source, options, lower=lower)
    baseline = _baseline(rows, options.baseline)
    unit = score_unit(
        rows.name,
        rows.metric,
        rows.frame["score"].to_numpy(),
        unit=options.unit,
        percent=rows.percent,
        margin=options.margin,
    )
    rows, family = _top(rows, baseline, options.top, lower=lower)
    rows, study = _study(rows, options, baseline=baseline, unit=unit)
    study = study.model_copy(update={"family": family})

    metrics = _metrics(rows, options, unit, lower=lower)
    scale = 100.0 if unit.kind == "percent" else 1.0
    trials = _trials(rows, scale=scale, pairing=study.pairing, datasets=study.datasets)
    diverged = sum(trial.state == "diverged" for trial in trials)
    lost = f"{plural(diverged, 'run')} without a finite score ({_not_finite(rows)}): counted as diverged, which leaves the arm unjudged"
    notes = (source.sentence, *source.notes, unit.sentence, told_direction, *rows.notes)
    return Runs(
        study=study.model_copy(update={"why": _why(rows)}),
        trials=trials,
        metrics=metrics,
        seeds=tuple(sorted({trial.seed for trial in trials})),
        notes=(*notes, *_constant(rows), *([lost] if diverged else [])),
    )


def _not_finite(rows: RunRows) -> str:
    """The places of the scores that are not finite."""
    faults = np.flatnonzero(~np.isfinite(rows.frame["score"].to_numpy())).tolist()
    return some(places(rows.frame, faults))


def _constant(rows: RunRows) -> list[str]:
    """Say that a score never changes, where it does not."""
    values = rows.frame["score"].to_numpy()
    if "sd" in rows.frame or len(values) < 2 or not (values == values[0]).all():
        return []
    return [f"{rows.metric} is {values[0]:g} in every run: by it, no arm differs from another"]


def _why(rows: RunRows) -> str:
    """What a reader of the report has to know of the rows, in one paragraph."""
    return " ".join(f"{note[:1].upper()}{note[1:]}." for note in rows.notes)


# From rows to runs


def _run_rows(source: TableSource, options: TableOptions, *, lower: bool) -> RunRows:
    """Return one row a run: conditions applied, columns found, several rows of a run made one."""
    source, notes = chosen(source, options.where)
    keep = (*options.arm, *options.seed, *options.dataset, options.train, options.gap)
    source, metric = melted(source, options.metric, keep)
    by = options.last or options.best
    others = [options.train, options.gap, options.sd, by]
    wanted = [*options.arm, *options.seed, *options.dataset, metric, *others]
    check_columns(source, [name for name in wanted if name])
    if not options.where:
        notes += [
            f"some rows do not meet {condition}: --where {condition} leaves them out"
            for condition in source.where
        ]
    source = _in_time(source)
    names, shortened = arm_names(source, options.arm)
    frame = source.frame[[c for c in source.frame.columns if c.startswith("\x00")]].copy()
    datasets = [""] * len(names)
    if options.dataset:
        datasets = key_texts(source.frame, options.dataset, named=False)
    # as objects, so that rows of one arm share its name
    texts = {"arm": names, "seed": _seed_texts(source, options), "dataset": datasets}
    for key, cells in texts.items():
        frame[key] = np.array(cells, dtype=np.object_)
    score = numbers(source.frame, metric, source.name, options.decimal)
    frame["score"] = score.floats
    frame["missing"] = score.missing
    if score.spread is not None and options.seed and not (options.sd or options.n):
        # rows that have a partner are scores, whatever stands behind each
        notes += [f"the sd given with each {metric} is not used: a mean counts as one score"]
        score = replace(score, spread=None)
    for key in ("train", "gap", "sd"):
        if getattr(options, key):
            column = numbers(source.frame, getattr(options, key), source.name, options.decimal)
            frame[key] = column.floats
    frame = _with_counts(frame, source, options, score)
    if by:
        frame["by"] = numbers(source.frame, by, source.name, options.decimal).floats
    rows = RunRows(source.name, frame, score.percent, metric, (*notes, *shortened))
    rows = _present(rows, options.metric)
    return _one_a_run(rows, source, options, lower=lower)


def _seed_texts(source: TableSource, options: TableOptions) -> list[str]:
    """The seed of every row as text; without seeds every row is a run of its own."""
    if options.seed:
        texts = key_texts(source.frame, options.seed, named=False)
        empty = [i for i, text in enumerate(texts) if not text]
        if empty:
            raise RowsError(
                f"{source.name}: column {options.seed[0]!r} should hold seeds: "
                f"{some([f'{place} is empty' for place in places(source.frame, empty)])}",
                f"fill them in, or leave such rows out: --where '{options.seed[0]}!='",
                {"where": (f"{options.seed[0]}!=",)},
            )
        if all(re.fullmatch(r"-?\d+\.\d*[1-9]\d*", text) for text in texts):
            raise ReportError(
                f"{source.name}: column {options.seed[0]!r} holds fractions, which are no seeds",
                "name the column that numbers the runs",
            )
        return texts
    if options.last or options.best:
        return _restarts(source, options)
    return [str(i) for i in range(len(source.frame))]


def _restarts(source: TableSource, options: TableOptions) -> list[str]:
    """Tell runs without a seed apart: by their files, and within one by where an arm's clock starts again.

    Raises:
        UsageError: there is no clock, or the rows of several runs are mixed.
    """
    frame = source.frame
    known = [c for c in (options.last, source.last, *source.columns) if _plain(c) in CLOCKS]
    clock = options.last or next(iter(known), "")
    if not clock:
        raise UsageError(
            "--best needs --seed here, to know which rows are one run",
            "name the column that numbers the runs",
        )
    ticks = numbers(frame, clock, source.name, options.decimal).floats
    groups = zip(
        frame[FILE],
        key_texts(frame, options.arm, named=False),
        key_texts(frame, options.dataset, named=False) if options.dataset else [""] * len(frame),
        strict=True,
    )
    before: dict[tuple[str, ...], tuple[int, float, float]] = {}
    names = []
    for row, (place, tick) in enumerate(zip(groups, ticks.tolist(), strict=True)):
        count, last, first = before.get(place, (0, -math.inf, tick))
        if tick <= last:  # the clock goes back: another run, which starts where the first one did
            count += 1
            if tick != first:
                raise UsageError(
                    f"{source.name}: {places(frame, [row])[0]}: {clock} goes back to {tick:g} and not to "
                    f"{first:g}, where a run of {place[1]} starts: which rows are one run?",
                    "pass --seed with the column that numbers the runs",
                )
        before[place] = (count, last if math.isnan(tick) else tick, first)
        names.append(f"{place[0]} {place[2]} {count}")
    return names


def _with_counts(
    frame: pd.DataFrame, source: TableSource, options: TableOptions, score: NumberColumn
) -> pd.DataFrame:
    """Add the sd and number of runs behind every mean, for a table of means."""
    if score.spread is not None and not options.sd:
        frame["sd"] = score.spread
    if "sd" not in frame:
        return frame
    if not options.n:
        raise UsageError(
            f"{source.name}: the rows are means with an sd, without the number of runs behind them",
            "pass --n COLUMN, or --n 5 where all are of 5 runs",
        )
    if not options.n.isdigit() and options.n not in source.columns:
        raise UsageError(
            f"--n {options.n}: is neither a number nor a column",
            "put the number of runs behind each mean: --n 5, or the column that has it",
        )
    if options.n.isdigit():
        frame["n"] = float(options.n)
    else:
        frame["n"] = numbers(source.frame, options.n, source.name, options.decimal).floats
    return frame


def _in_time(source: TableSource) -> TableSource:
    """Return the rows from the oldest run to the newest, where the tool knows when runs began."""
    if not source.created or source.created not in source.columns:
        return source
    texts = source.frame[source.created].map(text_of)
    try:
        order = np.argsort(texts.map(float).to_numpy(), kind="stable")
    except ValueError:  # times as ISO texts, which sort as they are
        order = np.argsort(texts.to_numpy(dtype=str), kind="stable")
    return source.with_frame(source.frame.iloc[order].reset_index(drop=True))


def _present(rows: RunRows, metric: str) -> RunRows:
    """Leave out rows without a score."""
    missing = rows.frame["missing"].to_numpy()
    kept = rows.frame.loc[~missing].drop(columns="missing").reset_index(drop=True)
    if kept.empty:
        raise ReportError(
            f"{rows.name}: column {metric!r} is empty in every row",
            "name the column of the final scores",
        )
    gone = int(missing.sum())
    told = f"{plural(gone, 'row')} without {metric} left out"
    return replace(rows, frame=kept, notes=(*rows.notes, *([told] if gone else [])))


def _one_a_run(
    rows: RunRows, source: TableSource, options: TableOptions, *, lower: bool
) -> RunRows:
    """Make one row of the several that a run has, and one run of several by the policy for duplicates."""
    frame, notes, metric = rows.frame, list(rows.notes), rows.metric
    place = ["arm", "dataset", "seed"]
    if options.last or options.best:
        by, before = options.last or options.best, len(frame)
        down = False
        if options.best:
            same = options.best == options.metric
            down = lower if same else direction(rows.name, options.best, lower_is_better=None)[0]
            metric = f"{metric} (best of a run, optimistic)"
        # a run with nothing but nan diverged: it stays, to be counted as such
        ordered = frame.sort_values("by", ascending=not down, kind="stable", na_position="first")
        last = ordered.groupby(place, sort=False).tail(1)
        if options.last:  # two last rows are two runs, unless they say the same
            latest = ordered.groupby(place, sort=False)["by"].transform("max")
            last = ordered.loc[ordered["by"] == latest].drop_duplicates([*place, "score"])
        frame = last.sort_index().reset_index(drop=True)
        if len(frame) < before:
            which = "last" if options.last else "best"
            notes.append(
                f"of {before:,} rows the {which} by {by} of each run counts: {len(frame):,} runs"
            )
    twice = frame.duplicated(place, keep=False)
    if twice.any() and options.duplicates == "refuse":
        raise _repeated(replace(rows, frame=frame), frame.loc[twice], source, options)
    if twice.any():
        count = int(twice.sum()) - len(frame.loc[twice, place].drop_duplicates())
        frame = _by_policy(frame, place, options.duplicates)
        words = {"mean": "the mean of", "first": "the first of", "last": "the last of"}
        order = f" by {source.created}" if source.created and options.duplicates != "mean" else ""
        notes.append(
            f"{words[options.duplicates]} several runs of one arm and seed counts{order}: "
            f"{plural(count, 'row')} less"
        )
    return replace(rows, frame=frame, notes=tuple(notes), metric=metric)


def _by_policy(frame: pd.DataFrame, place: list[str], policy: str) -> pd.DataFrame:
    groups = frame.groupby(place, sort=False)
    if policy == "first":
        return groups.head(1).reset_index(drop=True)
    if policy == "last":
        return groups.tail(1).sort_index().reset_index(drop=True)
    kept = groups.head(1).set_index(place)
    means = groups[[c for c in ("score", "train", "gap") if c in frame]].mean()
    for name in means.columns:
        kept[name] = means[name]
    # the mean of pandas leaves out a nan, which says here that a run diverged
    kept["score"] = groups["score"].agg(lambda values: values.to_numpy().mean())
    return kept.reset_index()


def _repeated(
    rows: RunRows, twice: pd.DataFrame, source: TableSource, options: TableOptions
) -> RowsError:
    """The error of several rows for one arm and seed, with the ways out that this table has."""
    repeats: list[str] = []
    for (arm, dataset, seed), group in twice.groupby(["arm", "dataset", "seed"], sort=False):
        if len(repeats) > 4:
            break
        lines = [place.removeprefix("line ") for place in places(group, range(min(len(group), 4)))]
        where = f" on {dataset}" if str(dataset) else ""
        repeats.append(f"{arm}{where} at seed {seed} (lines {', '.join(lines)})")
    count = len(twice[["arm", "dataset", "seed"]].drop_duplicates())
    more = f"; and {count - 4} more" if count > 4 else ""
    clock = next((c for c in source.columns if _plain(c) in CLOCKS), "")
    ways = [f"--last {clock}"] if clock and not (options.last or options.best) else []
    ways += [f"--where {condition}" for condition in source.where if condition not in options.where]
    by_time = f", the newest by {source.created}" if source.created else ""
    ways += [f"--duplicates last (or first, mean){by_time}", "one more --arm or --dataset"]
    # as many of every arm and seed are measurements of one run rather than runs made again
    sizes = rows.frame.groupby(["arm", "dataset", "seed"], sort=False).size()
    policy = "mean" if sizes.min() == sizes.max() and not source.created else "last"
    return RowsError(
        f"{rows.name}: more than one row for {'; '.join(repeats[:4])}{more}",
        f"say which counts: {'; '.join(ways)}",
        {"duplicates": policy},
    )


CLOCKS = frozenset(
    {
        *("epoch", "epochs", "step", "steps", "global_step", "iteration", "iterations", "iter"),
        *("training_iteration", "total_timesteps", "timesteps", "timestep", "trainer_global_step"),
        *("timesteps_total", "env_steps", "frames", "num_frames", "env_frames", "current_epoch"),
    }
)


def _plain(name: str) -> str:
    last = re.split(r"[./]", name)[-1]
    return re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_").removeprefix("_")


# From runs to a study


def _baseline(rows: RunRows, wanted: str) -> str:
    """The name of the baseline among the arms; a few spaces more or less are no other name."""
    names = rows.arms
    squeezed = {re.sub(r"\s+", "", name): name for name in reversed(names)}
    name = wanted if wanted in names else squeezed.get(re.sub(r"\s+", "", wanted), "")
    if not name:
        raise ReportError(
            f"{rows.name}: no row's arm is {wanted!r}{did_you_mean(wanted, names)}",
            f"arms there are: {', '.join(names[:10])}"
            + (f" and {len(names) - 10:,} more" if len(names) > 10 else ""),
        )
    if len(names) < 2:
        raise ReportError(
            f"{rows.name}: every row is of {wanted!r}, so nothing is compared",
            "add the rows of another arm",
        )
    return name


def _top(rows: RunRows, baseline: str, top: int, *, lower: bool) -> tuple[RunRows, int]:
    """Keep the baseline and the arms of the best means; return how many arms the correction has to count."""
    others = len(rows.arms) - 1
    if not top and others > _MOST_ARMS:
        raise ReportError(
            f"{rows.name}: {others:,} arms against {baseline}: in one family of that size only large differences show",
            "--top 20 shows the 20 best, corrected for all of them; --where COLUMN=VALUE takes one family of arms; "
            "fewer --arm columns make fewer arms",
        )
    if not top or others <= top:
        return rows, 0
    means = rows.frame.loc[rows.frame["arm"] != baseline].groupby("arm", sort=False)["score"].mean()
    best = means.sort_values(ascending=lower, kind="stable").index[:top]
    frame = rows.frame.loc[rows.frame["arm"].isin([baseline, *best])].reset_index(drop=True)
    told = f"the {top} best of {others:,} arms by their mean are shown; Holm's correction counts all {others:,}"
    return replace(rows, frame=frame, notes=(*rows.notes, told)), others


def _study(
    rows: RunRows, options: TableOptions, *, baseline: str, unit: ScoreUnit
) -> tuple[RunRows, Study]:
    """Return the rows that are analysed, with numbers for seeds, and the study they are of."""
    rows, pairing = _paired_or_not(rows, options, baseline)
    frame = rows.frame
    names: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    if pairing == "seed":
        rows, datasets = _over_datasets(rows)
        frame = rows.frame
        known, whole = seed_numbers(frame["seed"].tolist())
        frame = frame.assign(number=frame["seed"].map(known))
        labels = {number: seed for seed, number in reversed(known.items())}
        names = () if whole else tuple(labels[number] for number in sorted(labels))
        stems = {re.sub(r"\d+$", "", name) for name in names}
        if len(stems) > 1 and len(options.seed) == 1 and "seed" not in options.seed[0].lower():
            told = f"a pair is one {options.seed[0]}: where seeds are spoken of, read {options.seed[0]}"
            rows = replace(rows, notes=(*rows.notes, told))
    else:
        frame = frame.assign(number=frame.groupby("arm", sort=False).cumcount())
    count = frame["number"].nunique()
    if count > _MOST_SEEDS:
        raise ReportError(
            f"{rows.name}: {count:,} seeds are more than the {_MOST_SEEDS:,} that are compared",
            "is the column of seeds one of steps or run ids?",
        )
    rows = replace(rows, frame=frame)
    study = Study(
        name=study_name(rows.name),
        question=f"Which arms of {rows.name[:80]} differ from {baseline}, and which are noise?"[
            :300
        ],
        design="arms",
        baseline=baseline,
        metric=rows.metric,
        alpha=options.alpha,
        margin_pp=options.margin * (100.0 if unit.kind == "number" else 1.0),
        seeds=count,
        arms=tuple(HandArm(name=name, set={}) for name in rows.arms if name != baseline),
        table=rows.name,
        pairing=pairing,
        seed_names=names,
        datasets=datasets,
    )
    return rows, study


def _over_datasets(rows: RunRows) -> tuple[RunRows, tuple[str, ...]]:
    """Make one row an arm and seed of those on several data sets, with the score on each; return the data sets.

    A seed that trains on every data set gives no independent runs, so that a seed counts once.
    """
    frame = rows.frame
    names = tuple(sorted(frame["dataset"].unique()))
    if len(names) < 2:
        return rows, ()
    place = ["arm", "seed"]
    groups = frame.groupby(place, sort=False)
    kept = groups.head(1).set_index(place)
    for column in ("score", "train", "gap"):
        if column in frame:  # nan and inf have to stay: they say that a run diverged
            kept[column] = groups[column].agg(lambda values: values.to_numpy().mean())
    for name in names:
        own = frame.loc[frame["dataset"] == name].set_index(place)["score"]
        kept[reading_on(name)] = own
    seeds = plural(frame["seed"].nunique(), "seed")
    told = (
        f"a seed may train on each of the {len(names)} data sets, so that its runs are not independent: "
        f"it counts once, by its mean over them ({seeds}, not {len(frame) // len(rows.arms)} pairs)"
    )
    return replace(rows, frame=kept.reset_index(), notes=(*rows.notes, told)), names


def _natural(pair: tuple[str, str]) -> tuple[Any, ...]:
    """Order data sets by name and seeds as numbers where they end in some."""
    match = re.fullmatch(r"(.*?)(\d{1,15})", pair[1])
    return (pair[0], match[1], int(match[2])) if match else (pair[0], pair[1], -1)


def _paired_or_not(rows: RunRows, options: TableOptions, baseline: str) -> tuple[RunRows, Any]:
    """Return the rows to analyse and how runs are compared: seed by seed, as groups, or by means."""
    if "sd" in rows.frame:
        return _means(rows), "summary"
    if options.unpaired or not options.seed:
        told = "runs are not paired: arms are compared as two groups (Welch's t)"
        return replace(rows, notes=(*rows.notes, told)), "none"
    rows = _seeds_within(rows)
    frame = rows.frame
    pairs: dict[str, set[tuple[str, str]]] = {
        str(arm): set(zip(group["dataset"], group["seed"], strict=True))
        for arm, group in frame.groupby("arm", sort=False)
    }
    every = set[tuple[str, str]]().union(*pairs.values())
    sets, seeds = {dataset for dataset, _ in every}, {seed for _, seed in every}
    every = {(dataset, seed) for dataset in sets for seed in seeds}
    whole = {
        seed
        for seed in seeds
        if all((dataset, seed) in own for dataset in sets for own in pairs.values())
    }
    common = {(dataset, seed) for dataset, seed in every if seed in whole}
    if len(common) == len(every):
        return rows, "seed"
    shared = any(pairs[baseline] & seeds for arm, seeds in pairs.items() if arm != baseline)
    if not shared and not options.dataset:
        told = f"no arm shares a seed with {baseline}: arms are compared as two groups (Welch's t)"
        return replace(rows, notes=(*rows.notes, told)), "none"
    if not options.common_seeds or not common:
        raise _holes(rows.name, pairs, every, common)
    kept = np.array([p in common for p in zip(frame["dataset"], frame["seed"], strict=True)])
    lost = frame.loc[~kept, "seed"]
    told = (
        f"{plural(lost.nunique(), 'seed')} ({plural(len(lost), 'row')}) left out for every arm: "
        "not all arms have them"
    )
    # what an arm did there counts against it no more
    broken = np.flatnonzero(~np.isfinite(frame["score"].to_numpy()) & ~kept).tolist()
    if broken:
        without = f"{plural(len(broken), 'run')} without a finite score"
        told += f", {without} among them ({some(places(frame, broken))}), which no verdict counts"
    return replace(
        rows, frame=frame.loc[kept].reset_index(drop=True), notes=(*rows.notes, told)
    ), "seed"


def _seeds_within(rows: RunRows) -> RunRows:
    """Count seeds within each data set where no two data sets share one: which of them meet is then of no account."""
    frame = rows.frame
    own = frame[["dataset", "seed"]].drop_duplicates()
    if own["dataset"].nunique() < 2 or own["seed"].duplicated().any():
        return rows
    counted: Counter[str] = Counter()
    order: dict[tuple[str, str], int] = {}
    for pair in sorted(zip(own["dataset"], own["seed"], strict=True), key=_natural):
        order[pair] = counted[pair[0]]
        counted[pair[0]] += 1
    texts = [str(order[pair]) for pair in zip(frame["dataset"], frame["seed"], strict=True)]
    told = "data sets share no seed: seeds are counted from 0 within each"
    return replace(rows, frame=frame.assign(seed=texts), notes=(*rows.notes, told))


def _holes(
    name: str,
    pairs: Mapping[str, set[tuple[str, str]]],
    every: set[tuple[str, str]],
    common: set[tuple[str, str]],
) -> RowsError:
    told = []
    for arm, own in pairs.items():
        missing = sorted(every - own, key=_natural)
        if missing:
            shown = [f"{seed} on {dataset}" if dataset else seed for dataset, seed in missing]
            word = "seed" if len(missing) == 1 else "seeds"
            more = ", ..." if len(shown) > 4 else ""
            told.append(f"{arm} ({word} {', '.join(shown[:4])}{more})")
    sets = len({dataset for dataset, _ in every})
    where = " on every data set" if sets > 1 else ""
    count = plural(len({seed for _, seed in common}), "seed")
    keep = f"pass --common-seeds to keep the {count} that every arm has{where}"
    none = (
        f"no seed is in every arm{where}: give every arm the same seeds, or choose rows by --where"
    )
    remedy = {"common_seeds": True} if common else {"unpaired": True} if sets == 1 else None
    return RowsError(
        f"{name}: no row for {some(told)}",
        f"add the rows, {keep}, or --unpaired to compare arms as groups"
        if common
        else f"{none}; or --unpaired",
        remedy,
    )


def _means(rows: RunRows) -> RunRows:
    """A table of means: one row an arm, each with an sd and a number of runs."""
    frame = rows.frame
    twice = frame.loc[frame.duplicated("arm", keep=False), "arm"].unique().tolist()
    if twice:
        raise ReportError(
            f"{rows.name}: more than one mean for {some([repr(name) for name in twice])}",
            "name the arms more finely with one more --arm, or keep one data set with --where",
        )
    bad = frame["sd"].isna() | (frame["sd"] < 0) | frame["n"].isna() | (frame["n"] < 1)
    if bad.any():
        raise ReportError(
            f"{rows.name}: no usable sd or number of runs for {some([repr(n) for n in frame.loc[bad, 'arm']])}",
            "an sd is 0 or more, a number of runs 1 or more",
        )
    told = "means with sd and n: arms are compared as two groups (Welch's t)"
    return replace(rows, notes=(*rows.notes, told))


def _metrics(
    rows: RunRows, options: TableOptions, unit: ScoreUnit, *, lower: bool
) -> dict[str, Metric]:
    """The column that decides and the other metrics, under names of their own; ours of the same name mean something else."""
    shown = Metric(rows.metric, unit.shown, not lower, rows.metric)
    metrics = {shown.name: shown}
    if options.train:
        name = f"train_{shown.name}"
        metrics[name] = Metric(name, unit.shown, None, options.train)
    if options.train or options.gap:
        gap = gap_name(shown.name)
        metrics[gap] = Metric(gap, unit.shown, None, options.gap or "overfitting gap")
    return metrics


def _trials(
    rows: RunRows, *, scale: float, pairing: str, datasets: Sequence[str]
) -> tuple[Trial, ...]:
    """One trial a run; of a table of means one an arm, with what is known of its runs as readings, as are scores on data sets."""
    frame, metric = rows.frame, rows.metric
    keys = {"score": metric, "train": f"train_{metric}", "gap": gap_name(metric)}
    keys = {column: key for column, key in keys.items() if column in frame}
    values: dict[str, npt.NDArray[np.float64]] = {
        key: frame[column].to_numpy(dtype=np.float64) / scale for column, key in keys.items()
    }
    on_sets = {
        name: frame[name].to_numpy(dtype=np.float64) / scale for name in map(reading_on, datasets)
    }
    # all share what a table does not know: a hundred thousand times, it fills the memory
    known = Trial(cell="", seed=0, recipe=Recipe(), state="complete")
    shared, named = dict(known), known.model_fields_set
    trials = []
    for i, (arm, seed) in enumerate(zip(frame["arm"], frame["number"].tolist(), strict=True)):
        scores = {key: float(column[i]) for key, column in values.items()}
        finite = math.isfinite(scores[metric])
        own: dict[str, Any] = {
            "cell": digest(["table", arm, seed]),
            "seed": seed,
            "state": "complete" if finite else "diverged",
            "metrics": {k: v for k, v in scores.items() if math.isfinite(v)} if finite else {},
            "label": arm,
        }
        if on_sets and finite:
            own["readings"] = {key: float(column[i]) for key, column in on_sets.items()}
        if pairing == "summary":
            runs, sd = float(frame["n"].iloc[i]), float(frame["sd"].iloc[i]) / scale
            own["readings"] = {unpaired.RUNS: runs, unpaired.SD: sd}
        trials.append(Trial.model_construct(named, **{**shared, **own}))
    return tuple(trials)


def study_name(name: str) -> str:
    """Return the name of a source without its ending, as far as it can name a folder."""
    stem = re.sub(
        r"(\.(csv|tsv|txt|jsonl?|ndjson|parquet|feather|xlsx|gz|xz|bz2|zip|log|db))+$", "", name
    )
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:80] or "table"
