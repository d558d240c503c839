"""What a table of runs would be read as if nobody said: arm, seed, score and the rest, each with its reason.

These are proposals. They are shown with the command that spells them out, and only that command
acts on them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.analysis.cells import MISSING, has_spread, is_numeric, numbers, numeric_share
from harness.analysis.runs_table import CLOCKS, Runs, runs_of
from harness.analysis.score_unit import is_share_name, likely_unit, small_is_good
from harness.analysis.sources import TableSource
from harness.analysis.sources.frame import FILE, text_of
from harness.analysis.table_options import TableOptions
from harness.analysis.table_rows import arm_names, chosen, melted, melted_name
from harness.errors import HarnessError, ReportError, RowsError
from harness.text import plural

if TYPE_CHECKING:
    import pandas as pd


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_SEEDS = _words(
    "seed random_seed rng_seed run_seed manual_seed seed_id random_state rng trial_seed rep "
    "repeat repetition replicate replication fold split cv_fold pair pair_id block replica "
    "init_seed subject run run_number run_idx trial trial_number version number index run_id"
)
_REPEATS = frozenset(_words("rep repeat repetition replicate replication fold split cv_fold run"))
_ARMS = _words(
    "arm method algorithm algo agent variant ablation condition treatment model approach "
    "system strategy policy architecture arch optimizer augmentation aug setting group "
    "config_name experiment exp_name exp name run_name folder submission framework key "
    "network loss schedule regularizer backbone learner estimator classifier scheme flow_name "
    "config params file"
)
_DATASETS = _words(
    "dataset data dataset_name task task_name env env_id env_name environment game workload "
    "benchmark domain problem corpus test_envs data_name"
)
_BASELINES = _words(
    "baseline base reference control vanilla default plain standard none original erm sgd dqn full"
)
_SEED_NAME = re.compile(
    r"([a-z]+_)*seed(_(id|value|no|nr|number|idx|index))?|[a-z]*seed|random_state|rng(_state|_key)?|prng\w*"
)
_HYPER = re.compile(
    r"(.*_)?(lr|learning_?rate|wd|weight_decay|dropout|drop_path\w*|momentum|batch_?size|bs|warm_?up\w*|gamma|"
    r"beta_?\d?|alpha|lambda|lam|temperature|temp|tau|depth|width|label_smoothing|smoothing|\w*clip\w*|decay|"
    r"hidden\w*|layers|blocks|patch\w*|augment\w*|mixup\w*|cutmix\w*|img_?size|resolution|optim|optimizer)"
)
_SETTINGS = re.compile(
    r"(config|params|param|args|hparams|hyperparameters|cfg|flags)[._].+|param_.+"
)
_NO_SCORE = re.compile(
    r"(^|[._/ -])(epochs?|steps?|iter\w*|time\w*|runtime|duration|seconds|hours|lr|learning_rate|"
    r"batch\w*|seed|index|rank\w*|wd|weight_decay|dropout|params_m|flops|n_\w+|num_\w+|"
    r"std\w*|sd|stderr|sem|min|max|count|size|memory|gpu\w*|id|number|timestamp|walltime)$",
    re.IGNORECASE,
)
_NO_ARM = _words(
    "state status created updated user notes tags hostname runtime start_time end_time "
    "duration run_id id date time sweep host datetime_start datetime_complete source_name "
    "source_version timestamp output_dir save_dir path logdir log_dir checkpoint comment "
    "git_hash"
)
_HELD_OUT = (("val", 6), ("valid", 6), ("dev", 6), ("eval", 6), ("test", 5), ("train", -60))
_HELD_OUT_ROWS = ("val", "valid", "validation", "dev", "eval", "evaluation", "test")
_MOST_VALUES = 3
_MOST_ARM_COLUMNS = 8


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """What a column looks like.

    Attributes:
        name: of the column.
        samples: three different values.
        distinct: how many different values it has.
        filled: in how many rows there is one.
        numeric: whether all of them are numbers.
        mostly: whether more than half of them are.
    """

    name: str
    samples: tuple[str, ...]
    distinct: int
    filled: int
    numeric: bool
    mostly: bool


@dataclass(frozen=True, slots=True)
class ColumnChoice:
    """A proposal: an option, what it would be, and why.

    Attributes:
        option: such as ``arm``.
        value: of the option, as one would type it.
        why: the reason, in words.
    """

    option: str
    value: str
    why: str


def column_facts(source: TableSource) -> list[ColumnFacts]:
    """Return what every column looks like."""
    facts = []
    for name in source.columns:
        cells = source.frame[name].tolist()
        texts = [text for cell in cells if (text := text_of(cell)).lower() not in MISSING]
        different = list(dict.fromkeys(texts))
        samples = tuple(different[:_MOST_VALUES])
        share = numeric_share(cells) if texts else 0.0
        facts.append(
            ColumnFacts(name, samples, len(different), len(texts), share == 1.0, share > 0.5)
        )
    return facts


def proposed(source: TableSource, given: TableOptions) -> tuple[TableOptions, list[ColumnChoice]]:
    """Return options for a table, those that were given as they are, and the reason for every other one.

    Options that the columns do not settle stay empty.
    """
    options, choices = given, list[ColumnChoice]()
    if not options.where and source.where:
        options = replace(options, where=source.where)
        choices.append(ColumnChoice("where", source.where[0], "other runs did not end well"))
    options, more = _tidy(source, options)
    choices += more
    source, _ = chosen(source, options.where)
    options, more = _wide(source, options)
    choices += more
    if "{" in options.metric:
        source, _ = melted(source, options.metric, (*options.arm, *options.seed, *options.dataset))
    facts = {fact.name: fact for fact in column_facts(source)}
    for step in _STEPS:
        options, choice = step(source, facts, options)
        choices += choice
    return options, choices


_MOST_REMEDIES = 6  # more would make another table of it


def tried(
    source: TableSource, options: TableOptions
) -> tuple[TableOptions, list[ColumnChoice], Runs | HarnessError]:
    """Read a table as proposed, with one more option for every kind of row in the way.

    Returns:
        Options, the reasons for those that were added, and the runs or what no option gets past.
    """
    choices: list[ColumnChoice] = []
    for _ in range(_MOST_REMEDIES):
        try:
            return options, choices, runs_of(source, options)
        except RowsError as error:
            if not error.remedy:
                return options, choices, error
            why = error.message.removeprefix(f"{source.name}: ")
            for name, value in error.remedy.items():
                flag = name.replace("_", "-")
                if name == "where":
                    options = replace(options, where=(*options.where, *value))
                    choices += [ColumnChoice(flag, condition, why) for condition in value]
                else:
                    options = replace(options, **{name: value})
                    choices.append(ColumnChoice(flag, value if value is not True else "", why))
        except HarnessError as error:
            return options, choices, error
    return options, choices, ReportError(f"{source.name}: nothing is left to compare")


Step = tuple[TableOptions, list[ColumnChoice]]
Facts = dict[str, ColumnFacts]


_SPREADS = frozenset({"std", "sd", "stdev", "stddev", "std_dev", "standard_deviation", "sigma"})
_COUNTS = frozenset({"n", "count", "runs", "seeds", "n_runs", "n_seeds", "num_seeds", "num_runs"})


def _means(source: TableSource, facts: Facts, options: TableOptions) -> Step:
    """A row an arm with a mean, an sd and a number of runs."""
    if options.sd or options.seed or not options.metric or options.last:
        return options, []
    cells = [] if "{" in options.metric else source.frame[options.metric].tolist()
    in_cells = any(map(has_spread, map(text_of, cells[:200])))
    stem = re.sub(r"_?(mean|avg)$", "", options.metric, flags=re.IGNORECASE)
    spreads = [
        f
        for f in facts
        if _word(f) in _SPREADS or re.fullmatch(rf"{re.escape(stem)}[_ ](std|sd)", f)
    ]
    if not (spreads or in_cells):
        return options, []
    choices = []
    if spreads and not in_cells:
        options = replace(options, sd=spreads[0])
        choices.append(ColumnChoice("sd", spreads[0], "rows are means, with an sd"))
    counts = [f for f in facts if _word(f) in _COUNTS and facts[f].numeric]
    if not options.n:
        why = (
            "the number of runs behind each mean"
            if counts
            else "the table does not say of how many runs the means are: put their number"
        )
        options = replace(options, n=counts[0] if counts else "N")
        choices.append(ColumnChoice("n", options.n, why))
    return options, choices


def _word(name: str) -> str:
    """The last part of a dotted name, in small letters with underscores: ``rand_seed`` of ``cfg.RandSeed``."""
    last = re.split(r"[./]", name)[-1].removeprefix("param_").removeprefix("params_")
    last = last.removeprefix("Key_")  # of Weka's Experimenter
    last = last.removeprefix("user_attrs_")
    last = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", last)
    return re.sub(r"[^a-z0-9]+", "_", last.lower()).strip("_")


def _is_setting(name: str) -> bool:
    return bool(_SETTINGS.fullmatch(name) or _HYPER.fullmatch(_word(name)))


def _first(names: Sequence[str], facts: Facts, fits: Any) -> str:
    """The column whose name comes first in a list of usual names, among those that fit."""
    for wanted in names:
        for fact in facts.values():
            if _word(fact.name) == wanted and fits(fact):
                return fact.name
    return ""


def _tidy(source: TableSource, options: TableOptions) -> Step:
    """A column of metrics' names next to one of values: propose the likeliest metric."""
    if not options.where and (choice := _of_held_out(source)):
        return replace(options, where=(choice.value,)), [choice]
    words = {_word(name): name for name in source.columns}
    column = words.get("metric", words.get("metric_name", ""))
    if options.metric or options.where or not column or "value" not in words:
        return options, []
    names = list(dict.fromkeys(map(text_of, source.frame[column])))
    if len(names) < 2:
        return options, []
    ranks = {n: _score_rank(ColumnFacts(n, (), 2, 1, numeric=True, mostly=True)) for n in names}
    best = max(names, key=lambda name: ranks[name])
    where = f"{column}={best}"
    why = f"one of {plural(len(names), 'metric')}, each in rows of its own"
    options = replace(options, where=(where,), metric=words["value"])
    return options, [ColumnChoice("where", where, why)]


def _of_held_out(source: TableSource) -> ColumnChoice | None:
    """Rows of training, validation and test under each other: propose those of held-out data; None where there are none."""
    for column in source.columns:
        if _word(column) not in ("split", "subset", "partition", "phase", "mode", "set", "part"):
            continue
        values = {text_of(cell).lower(): text_of(cell) for cell in source.frame[column]}
        held = next((values[part] for part in _HELD_OUT_ROWS if part in values), "")
        if held and {"train", "training"} & set(values):
            return ColumnChoice("where", f"{column}={held}", "scores on held-out data decide")
    return None


def _wide(source: TableSource, options: TableOptions) -> Step:
    """Columns that are runs or arms: propose their form."""
    if options.metric:
        return options, []
    seed = next((n for n in source.columns if _word(n) in _SEEDS[:11]), "")
    texts = list(map(text_of, source.frame[seed])) if seed else []
    others = [name for name in source.columns if name != seed]
    numeric = [name for name in others if is_numeric(source.frame[name].tolist())]
    why = f"a row a seed, {plural(len(others), 'column')} of scores: each is an arm"
    if not seed and (seed := _row_of_datasets(source)):
        others = [name for name in source.columns if name != seed]
        numeric = [name for name in others if is_numeric(source.frame[name].tolist())]
        texts = list(map(text_of, source.frame[seed]))
        why = f"a row a data set, {plural(len(others), 'column')} of scores: each is an arm, a pair is one data set"
    if texts and len(set(texts)) == len(texts) and len(numeric) == len(others) > 1:
        options = replace(options, metric="{arm}", arm=options.arm or ("arm",), seed=(seed,))
        return options, [ColumnChoice("metric", "{arm}", why)]
    sets = [name for name in numeric if _is_dataset(name)]
    if not seed and len(sets) == len(numeric) > 2:
        why = f"{plural(len(sets), 'column')} named like data sets, a score on each: a pair is one data set"
        options = replace(options, metric="{dataset}", seed=("dataset",))
        return options, [ColumnChoice("metric", "{dataset}", why)]
    numbered: dict[str, list[str]] = {}
    for name in source.columns:
        if re.search(r"\d", name) and is_numeric(source.frame[name].tolist()):
            numbered.setdefault(re.sub(r"\d+(?!.*\d)", "{seed}", name), []).append(name)
    forms = {
        form: names
        for form, names in numbered.items()
        if len(names) > 2
        and re.search(r"seed|run|fold|split|rep|trial|^\W*\{seed\}$|acc", form, re.IGNORECASE)
    }
    if not forms or any(_word(name) in _SEEDS[:11] for name in source.columns):
        return options, []
    form, names = max(forms.items(), key=lambda item: len(item[1]))
    why = f"{plural(len(names), 'column')} of this form, a run each"
    options = replace(options, metric=form, seed=options.seed or ("seed",))
    return options, [ColumnChoice("metric", form, why)]


def _row_of_datasets(source: TableSource) -> str:
    """The column of data sets in a table of a row each, whose other columns are named like no score; empty without one."""
    facts = column_facts(source)
    known = [
        fact
        for fact in facts
        if not fact.numeric
        and fact.distinct == fact.filled == len(source.frame) > 2
        and (_word(fact.name) in _DATASETS or sum(map(_is_dataset, fact.samples)) > 1)
    ]
    if not known or any(_score_rank(fact) > 20 for fact in facts if fact is not known[0]):
        return ""
    return known[0].name


def _score(source: TableSource, facts: Facts, options: TableOptions) -> Step:
    del source
    if options.metric:
        return options, []
    taken = {*options.arm, *options.seed, *options.dataset, options.last, options.train}
    # a column of numbers that change; else one of numbers with some text among them, or that never change
    tries: tuple[Callable[[ColumnFacts], bool], ...] = (
        lambda fact: fact.numeric and fact.distinct > 1,
        lambda fact: fact.mostly and fact.distinct > 1 and _score_rank(fact) > 20,
        lambda fact: fact.mostly and _score_rank(fact) > 20,
    )
    for fits in tries:
        ranked = [(_score_rank(f), f.name) for f in facts.values() if fits(f)]
        ranked = [(rank, name) for rank, name in ranked if rank > 0 and name not in taken]
        if ranked:
            break
    else:
        return options, []
    best = max(rank for rank, _ in ranked)
    name = next(name for rank, name in ranked if rank == best)
    why = "numbers under the name of a score"
    why = why if facts[name].numeric else "mostly numbers, under the name of a score"
    why += "" if facts[name].distinct > 1 else "; they never change"
    held = [part for part, _ in _HELD_OUT[:5] if part in re.split(r"[^a-z]+", name.lower())]
    why += ", on held-out data" if held else ""
    return replace(options, metric=name), [ColumnChoice("metric", name, why)]


def _score_rank(fact: ColumnFacts) -> int:
    name = fact.name
    if {"time", "fps", "lr", "timing"} & set(re.split(r"[^a-z0-9]+", name.lower())):
        return 0
    if _SETTINGS.fullmatch(name) or _NO_SCORE.search(name) or _word(name) in CLOCKS:
        return 0
    if _SEED_NAME.fullmatch(_word(name)):
        return 0
    if _word(name) in _COUNTS | _SPREADS:
        return 0
    lowered = name.lower()
    parts = set(re.split(r"[^a-z0-9]+", lowered))
    rank = 10
    if re.search(r"acc|top.?1|percent_correct", lowered) or {"ap", "map"} & parts:
        rank = 60
    elif re.search(r"return|reward|_rew_|value|metric|perf|result|bleu|rouge|elo", lowered):
        rank = 45
    elif is_share_name(name):
        rank = 50
    elif small_is_good(name):
        rank = 30
    rank += next((bonus for part, bonus in _HELD_OUT if part in parts), 3)
    rank -= 4 * bool(parts & {"best", "mean", "avg", "in", "ema", "top5"})
    return rank - (20 if {"std", "min", "max", "median"} & parts else 0)


def _clock(source: TableSource, facts: Facts, options: TableOptions) -> Step:
    """Several rows a run, counted by epochs or steps: propose the last."""
    if options.last or options.best:
        return options, []
    clocks = [fact for fact in facts.values() if _word(fact.name) in CLOCKS and fact.numeric]
    clocks = [fact for fact in clocks if fact.distinct > 1]
    if source.last in facts and facts[source.last].distinct > 1:
        name = source.last
    elif clocks and len(source.frame) >= 2 * max(fact.distinct for fact in clocks[:1]):
        name = clocks[0].name
    else:
        return options, []
    why = f"a run has several rows, counted by {name}; --best COLUMN would be optimistic"
    return replace(options, last=name), [ColumnChoice("last", name, why)]


_SEED_VALUE = re.compile(r"(seed|s|run|rep|trial|fold|split)[-_ ]?\d+", re.IGNORECASE)


def _seed(source: TableSource, facts: Facts, options: TableOptions) -> Step:
    if options.seed or options.unpaired or options.sd:
        return options, []
    rows = len(source.frame)
    # a number of its own for every run is no seed that runs share
    runs = rows / max(1, facts[options.last].distinct if options.last in facts else 1)

    def fits(fact: ColumnFacts) -> bool:
        # a seed by its name may lack runs: two arms, one without its last seed
        most = runs / 1.5 if _word(fact.name) in _SEEDS[:8] else runs / 2
        return 1 < fact.distinct <= max(most, 2) and fact.filled == rows

    def is_named_seed(fact: ColumnFacts) -> bool:
        # one of its own for every run, or one for all of them, is still a seed
        enough = fact.distinct > 1 or bool(options.last)
        return bool(_SEED_NAME.fullmatch(_word(fact.name))) and enough and 2 * fact.filled > rows

    name = _first(_SEEDS, facts, fits)
    named = [fact.name for fact in facts.values() if is_named_seed(fact)]
    if named and not (name and _SEED_NAME.fullmatch(_word(name))):
        shared = [other for other in named if 1 < facts[other].distinct <= runs / 1.5]
        name = (shared or ([] if name else named) or [name])[0]
    if not name:
        alike = [
            f.name for f in facts.values() if fits(f) and all(map(_SEED_VALUE.fullmatch, f.samples))
        ]
        name = (alike or [""])[0]
    if not name:
        return options, []
    # a seed of the data and one of the net are one seed together, and so are a repetition and its fold
    names = [name]
    counted = [f.name for f in facts.values() if _word(f.name) in _REPEATS and fits(f)]
    for other in named if name in named else counted if name in counted else ():
        both = _groups(source.frame[[*names, other]].map(text_of), [*names, other])
        if other not in names and _groups(source.frame[names].map(text_of), names) < both < runs:
            names.append(other)
    return replace(options, seed=tuple(names)), [
        ColumnChoice("seed", n, f"named like a seed, {plural(facts[n].distinct, 'value')}")
        for n in names
    ]


def _dataset(source: TableSource, facts: Facts, options: TableOptions) -> Step:
    del source
    if options.dataset or not options.seed:
        return options, []
    taken = {*options.arm, *options.seed, options.metric}

    def fits(fact: ColumnFacts) -> bool:
        return fact.distinct > 1 and fact.name not in taken

    name = _first(_DATASETS, facts, fits)
    why = "named like a data set"
    if not name:
        # folders and keys have no names of their own: their values say what they are
        known = [f.name for f in facts.values() if fits(f) and _holds_datasets(f)]
        name, why = (known or [""])[0], "its values are known data sets"
    if not name:
        return options, []
    why = f"{why}, {plural(facts[name].distinct, 'value')}"
    return replace(options, dataset=(name,)), [ColumnChoice("dataset", name, why)]


_DATASET_VALUE = re.compile(
    r"mnist|cifar|imagenet|svhn|stl10|hopper|\bant\b|cheetah|walker|humanoid|swimmer|pong|breakout|asterix|qbert|"
    r"seaquest|cartpole|acrobot|-v\d$|\bwmt|librispeech|criteo|ogbg|fastmri|coco|squad|mnli|sst-?2|pacs|vlcs|celeba|"
    r"\b(cora|citeseer|pubmed|reddit|ogbn|rte|mrpc|qnli|qqp|imdb|wikitext|caltech|flowers|food-?101|eurosat|"
    r"aircraft|ade20k|cityscapes|voc|iris|glass|wine)\b",
    re.IGNORECASE,
)


def _is_dataset(text: str) -> bool:
    return bool(_DATASET_VALUE.search(text))


_NAMELESS = re.compile(r"(folder|key|file|path)( \d+)?")


def _holds_datasets(fact: ColumnFacts) -> bool:
    values = [sample for sample in fact.samples if _is_dataset(sample)]
    return bool(_NAMELESS.fullmatch(fact.name)) and 2 * len(values) > len(fact.samples)


def _arm(source: TableSource, facts: Facts, options: TableOptions) -> Step:
    if options.arm:
        return options, []
    taken = {*options.seed, *options.dataset, options.metric, options.last, options.train}
    rows = len(source.frame)
    runs = rows / max(1, facts[options.last].distinct if options.last in facts else 1)

    def fits(fact: ColumnFacts) -> bool:
        repeated = fact.distinct * 2 <= runs or not options.seed
        if _SEED_NAME.fullmatch(_word(fact.name)) or (fact.numeric and _word(fact.name) in _SEEDS):
            return False
        if fact.numeric and any("." in sample for sample in fact.samples):
            # a setting that recurs, else a measurement
            repeated = fact.distinct * 2 <= runs and _is_setting(fact.name)
        full = fact.filled == rows or (2 * fact.filled > rows and _word(fact.name) in _ARMS)
        return fact.distinct > 1 and full and fact.name not in taken and repeated

    name = _first(_ARMS, facts, fits)
    why = "names what is compared"
    others = [
        fact.name
        for fact in facts.values()
        if (
            fits(fact)
            or (_SETTINGS.fullmatch(fact.name) and fact.filled and fact.name not in taken)
        )
        and fact.name != name
        and _word(fact.name) not in _NO_ARM
        and _word(fact.name) not in CLOCKS
        and (_is_setting(fact.name) or not fact.numeric or _score_rank(fact) < 11)
        and not _NO_ARM_NAME.search(fact.name)
    ]
    if not name and others:
        settings = [other for other in others if _is_setting(other)]
        name = (settings or [o for o in others if not facts[o].numeric] or others)[0]
        why = "differs between runs, and repeats over seeds"
    if not name:
        return options, []
    names, dataset = _finer(source, [name], others, options)
    said = [ColumnChoice("arm", name, f"{why}, {plural(facts[name].distinct, 'value')}")]
    finer = "tells apart runs of one arm and seed" if options.seed else "sets runs of one arm apart"
    said += [ColumnChoice("arm", n, finer) for n in names[1:]]
    if dataset:
        said.append(
            ColumnChoice("dataset", dataset, f"every {name} was run with each of its values")
        )
        options = replace(options, dataset=(dataset,))
    return replace(options, arm=tuple(names)), said


_NO_ARM_NAME = re.compile(r"time|date|uuid|_id$|hash|dir$|path$|url|version$|host", re.IGNORECASE)


def _finer(
    source: TableSource, names: list[str], others: Sequence[str], options: TableOptions
) -> tuple[list[str], str]:
    """Add columns that tell apart rows which would be one run, those that tell most apart first.

    One that every arm was run with all values of names data sets, if it is a part of paths or named so.
    """
    place = [*options.seed, *options.dataset, *([options.last] if options.last else [])]
    dataset = ""
    if not options.seed:  # rows of one arm are runs, unless they were set in another way
        settings = [n for n in others if _is_setting(n) and n not in names]
        frame = source.frame[[*names, *settings]].map(text_of)
        for name in settings:
            if _groups(frame, names) < _groups(frame, [*names, name]):
                names = [*names, name]
        return names, dataset
    frame = source.frame[[*dict.fromkeys([*place, *names, *others])]].map(text_of)
    runs = _groups(frame, [*place, *names])
    sets = [n for n in others if _NAMELESS.fullmatch(n) or _word(n) in _DATASETS]
    while runs < len(frame) and len(names) < _MOST_ARM_COLUMNS:
        gains = {n: _groups(frame, [*place, *names, n]) for n in others if n not in names}
        best = max(gains, key=lambda name: gains[name], default="")
        if not best or gains[best] == runs:
            break
        crossed = _groups(frame, [*names, best]) == _groups(frame, names) * _groups(frame, [best])
        if crossed and best in sets and not (dataset or options.dataset):
            dataset = best
            place.append(best)
        else:
            names = [*names, best]
        runs = gains[best]
    return names, dataset


def _groups(frame: pd.DataFrame, names: Sequence[str]) -> int:
    return len(frame.drop_duplicates(list(names)))


_PAIRS = re.compile(
    r"(dataset|data|task|item|example|sample|question|image|subject|problem|query|instance|prompt|workload|game|"
    r"benchmark)(_(id|idx|index|name|number|no))?"
)


def _run(source: TableSource, facts: Facts, options: TableOptions) -> Step:
    """No seed: propose a column that has a value of its own for every run, or one that every arm was tried on."""
    if options.seed or options.unpaired or options.sd or not options.arm:
        return options, []
    if not options.last:
        return _file_of_run(source, facts, options) or _tried_on(source, facts, options)
    place = [*options.arm, *options.dataset, options.last]
    for fact in facts.values():
        measured = fact.numeric and (_score_rank(fact) > 20 or "." in "".join(fact.samples))
        whole = fact.filled == len(source.frame) and fact.distinct > 1
        if fact.name in {*place, options.metric} or measured or not whole:
            continue
        frame = source.frame[[*place, fact.name]].map(text_of)
        if fact.distinct < len(frame) == _groups(frame, [*place, fact.name]):
            why = "tells runs apart; where arms share none of it, they are compared as two groups"
            return replace(options, seed=(fact.name,)), [ColumnChoice("seed", fact.name, why)]
    return options, []


def _file_of_run(source: TableSource, facts: Facts, options: TableOptions) -> Step | None:
    """Several files an arm with several rows each: the rows of a file are one run, and no runs of their own."""
    files = source.frame[FILE].nunique()
    arms = _groups(source.frame[list(options.arm)].map(text_of), options.arm)
    if not arms < files < len(source.frame):
        return None
    for name in facts:
        if name in {*options.arm, options.metric} or facts[name].filled < len(source.frame):
            continue
        frame = source.frame[[*options.arm, name, FILE]].map(text_of)
        if _groups(frame, [*options.arm, name]) == files == _groups(frame, list(frame.columns)):
            why = "tells the files of an arm apart: the rows of one file are one run"
            return replace(options, seed=(name,)), [ColumnChoice("seed", name, why)]
    return None


def _tried_on(source: TableSource, facts: Facts, options: TableOptions) -> Step:
    """A column of data sets, questions or images that every arm was tried on once: each is a pair."""
    rows = len(source.frame)
    for fact in facts.values():
        if not _PAIRS.fullmatch(_word(fact.name)) or fact.filled < rows or fact.distinct < 3:
            continue
        frame = source.frame[[*dict.fromkeys([*options.arm, fact.name])]].map(text_of)
        whole = _groups(frame, options.arm) * fact.distinct == rows
        if whole and fact.name not in options.arm and _groups(frame, list(frame.columns)) == rows:
            why = f"every arm has one row for each of its {fact.distinct} values: each is a pair"
            return replace(options, seed=(fact.name,)), [ColumnChoice("seed", fact.name, why)]
    return options, []


_ON = re.compile(
    r"(?<![a-z])(val|valid|validation|dev|eval|evaluation|test)(?![a-z])", re.IGNORECASE
)


def _train(source: TableSource, facts: Facts, options: TableOptions) -> Step:
    """The same score on training images, under the name of the deciding one with another first or last word."""
    del source
    if options.train or options.gap or options.sd or not options.metric:
        return options, []
    bare = _joined(_ON.sub("", options.metric))
    for name, fact in facts.items():
        words = re.sub(r"(?<![a-z])(train|training|tr)(?![a-z])", "", name, flags=re.IGNORECASE)
        if words != name and _joined(words) == bare and fact.numeric and fact.distinct > 1:
            why = f"{options.metric} on training data: gives the overfitting gap"
            return replace(options, train=name), [ColumnChoice("train", name, why)]
    return options, []


def _joined(name: str) -> str:
    return re.sub(r"accuracy", "acc", re.sub(r"[^a-z0-9%]+", "", name.lower()))


def _baseline(source: TableSource, facts: Facts, options: TableOptions) -> Step:
    del facts
    if options.baseline or not options.arm:
        return options, []
    full = source.frame[list(options.arm)].map(lambda cell: bool(text_of(cell))).all(axis=1)
    names = list(
        dict.fromkeys(arm_names(source.with_frame(source.frame.loc[full]), options.arm)[0])
    )
    if len(names) < 2:
        return options, []
    plain = {re.sub(r"[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    for word in _BASELINES:
        if word in plain:
            why = f"called like a baseline, of {plural(len(names), 'arm')}"
            return replace(options, baseline=plain[word]), [
                ColumnChoice("baseline", plain[word], why)
            ]
    near = [name for name in names if "baseline" in name.lower() or "vanilla" in name.lower()]
    name = (near or names)[0]
    why = f"the first of {plural(len(names), 'arm')}: choose the one that the others depart from"
    return replace(options, baseline=name), [ColumnChoice("baseline", name, why)]


def _direction(source: TableSource, facts: Facts, options: TableOptions) -> Step:
    del source, facts
    if options.lower_is_better is not None or not small_is_good(options.metric):
        return options, []
    why = f"{options.metric} is named like something that should be small"
    return replace(options, lower_is_better=True), [ColumnChoice("lower-is-better", "", why)]


def _margin(source: TableSource, facts: Facts, options: TableOptions) -> Step:
    """A margin is nobody's to guess; what is proposed is a round start to think from."""
    if options.margin or not options.metric:
        return options, []
    del facts
    name = melted_name(options.metric) if "{" in options.metric else options.metric
    try:
        column = numbers(source.frame, name, source.name, options.decimal)
    except RowsError as error:
        if not error.remedy:
            raise
        source, _ = chosen(source, error.remedy["where"])
        column = numbers(source.frame, name, source.name, options.decimal)
    values = column.floats[~column.missing]
    finite = values[abs(values) < float("inf")]
    if not finite.size:
        return options, []
    kind = options.unit
    if kind == "auto":
        kind, _ = likely_unit(
            name, float(finite.min()), float(finite.max()), percent=column.percent
        )
    if kind != "number":
        why = (
            "0.5 percentage points to begin with: put the smallest difference that you would act on"
        )
        return replace(options, margin=0.5), [ColumnChoice("margin", "0.5", why)]
    size = float(f"{0.01 * abs(float(finite.mean())) or 0.01:.0e}")
    why = f"about 1 % of the mean of {name}, in its own unit: put the smallest difference that you would act on"
    return replace(options, margin=size), [ColumnChoice("margin", f"{size:g}", why)]


_STEPS = (
    _score,
    _clock,
    _seed,
    _dataset,
    _means,
    _arm,
    _run,
    _train,
    _baseline,
    _direction,
    _margin,
)
