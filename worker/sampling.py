"""What Optuna says of a search: which values to try next, and which trials are hopeless.

Nothing is kept from one question to the next: a study is made anew of the trials, so that every worker gives the same
answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from json import dumps
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import PercentilePruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import JsonValue, ValidationError

from worker.curves import Curve
from worker.search import Direction, EarlyStopping, Search, SearchedField
from worker.search_space import Space
from worker.sweep_grid import Cell
from worker.trials import Standing, Trial

DIGITS: Final = 6
"""Numbers that are tried have so many significant ones, so that people can write them down."""
DRAWS: Final = 16
"""So many draws the sampler has for a trial, if what it draws makes no job or has been tried; then they are random."""
MOST_DRAWS: Final = 10_000
"""After so many, nothing seems to be left to try."""

_STATES: Final = {
    Standing.RUNNING: TrialState.RUNNING,
    Standing.COMPLETE: TrialState.COMPLETE,
    Standing.PRUNED: TrialState.PRUNED,
    # Failures are passed over, but from where runs diverge the sampler is to learn to stay away.
    Standing.DIVERGED: TrialState.PRUNED,
    Standing.FAILED: TrialState.FAIL,
}

optuna.logging.set_verbosity(optuna.logging.WARNING)


def proposals(
    space: Space, direction: Direction, trials: Sequence[Trial], curves: Mapping[int, Curve], first: int
) -> Iterator[Cell]:
    """Cells to try, none of them tried before, until there are no more.

    What is drawn for a trial depends on the seed of the search, the number of the trial, and those before it alone.

    Args:
        space: what may be tried.
        direction: of the metric.
        trials: those that there are.
        curves: of trials, by number. Without one, a trial that was hopeless counts as the worst of all.
        first: the number of the first trial to propose.
    """
    study, tried = _study(direction), {_text(trial.coordinates) for trial in trials}
    for trial in trials:
        study.add_trial(_frozen(trial, space.fields, curves.get(trial.number, {})))
    number = first
    while cell := _untried(space, study, number, tried):
        yield cell
        tried.add(_text(cell.coordinates))
        study.add_trial(_known(TrialState.RUNNING, cell.coordinates, space.fields))
        number += 1


def is_hopeless(rule: EarlyStopping, direction: Direction, curve: Curve, others: Sequence[Curve], steps: int) -> bool:
    """Whether a trial is to be given up.

    Args:
        rule: when it is.
        direction: of the metric.
        curve: of the trial so far.
        others: curves of the trials that are complete, with at least a point each.
        steps: the length of a run.
    """
    study = _study(direction)
    for other in others:
        study.add_trial(create_trial(value=other[max(other)], intermediate_values=dict(other)))
    pruner = PercentilePruner(rule.percentile, rule.finished, n_warmup_steps=round(rule.warm_up * steps))
    return pruner.prune(study, create_trial(state=TrialState.RUNNING, intermediate_values=dict(curve)))


def _study(direction: Direction) -> Study:
    return optuna.create_study(direction="minimize" if direction == "min" else "maximize")


def _frozen(trial: Trial, fields: Mapping[str, SearchedField], curve: Curve) -> FrozenTrial:
    value = trial.mean if trial.standing is Standing.COMPLETE else None
    return _known(_STATES[trial.standing], trial.coordinates, fields, value, curve)


def _known(
    state: TrialState,
    coordinates: Mapping[str, JsonValue],
    fields: Mapping[str, SearchedField],
    value: float | None = None,
    curve: Curve | None = None,
) -> FrozenTrial:
    """A trial as Optuna has it, without the fields that it lacks."""
    there = {path: found for path, found in coordinates.items() if found is not None or _may_be_none(fields[path])}
    return create_trial(
        state=state,
        value=value,
        params={path: _internal(fields[path], found) for path, found in there.items()},
        distributions={path: _distribution(fields[path]) for path in there},
        intermediate_values=dict(curve or {}),
    )


def _distribution(field: SearchedField) -> BaseDistribution:
    if field.choices is not None:
        return CategoricalDistribution(range(len(field.choices)))  # Optuna's choices cannot be objects or lists
    assert field.low is not None and field.high is not None
    if field.integer:
        return IntDistribution(int(field.low), int(field.high), log=field.scale == "log")
    return FloatDistribution(field.low, field.high, log=field.scale == "log")


def _may_be_none(field: SearchedField) -> bool:
    return field.choices is not None and None in field.choices


def _internal(field: SearchedField, value: JsonValue) -> Any:
    return value if field.choices is None else field.choices.index(value)


def _external(field: SearchedField, value: Any) -> JsonValue:
    if field.choices is not None:
        return field.choices[int(value)]
    assert field.low is not None and field.high is not None
    return int(value) if field.integer else min(max(float(f"{value:.{DIGITS}g}"), field.low), field.high)


def _untried(space: Space, study: Study, number: int, tried: set[str]) -> Cell | None:
    """The first cell drawn for the trial of that number that makes a job and has not been tried."""
    for draw in range(MOST_DRAWS):
        values = _drawn(study, space.fields, _sampler(space.search, number, draw))
        if _text(space.coordinates(values)) not in tried:
            try:
                return space.cell(values)
            except ValidationError:
                continue
    return None


def _drawn(study: Study, fields: Mapping[str, SearchedField], sampler: BaseSampler) -> dict[str, JsonValue]:
    study.sampler = sampler
    trial = study.ask({path: _distribution(field) for path, field in fields.items()})
    study.tell(trial, state=TrialState.FAIL)  # it is added as what it becomes
    return {path: _external(field, trial.params[path]) for path, field in fields.items()}


def _sampler(search: Search, number: int, draw: int) -> BaseSampler:
    digest = hashlib.sha256(f"{search.seed}/{number}/{draw}".encode()).digest()
    seed = int.from_bytes(digest[:4], "little")
    return TPESampler(seed=seed) if search.sampler == "tpe" and draw < DRAWS else RandomSampler(seed=seed)


def _text(coordinates: Mapping[str, JsonValue]) -> str:
    return dumps(dict(coordinates), sort_keys=True)
