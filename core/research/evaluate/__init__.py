"""How far a run's influences can be trusted: `turnover evaluate`.

Estimators and baselines are measured side by side against known answers. Each measure takes an
`EvaluationTask`, a run with a sample of its targets, and `Options`, and returns rows of figures
with the seconds that each method took.

lds.py         retraining on random halves
loo.py         leaving single items out
labels.py      injected wrong labels and cues, confirmed label errors, near duplicates
removal.py     removing the proponents of an error
agreement.py   two halves of the members
task.py        what is measured; scores.py: all methods; retrained.py: models trained again
results.py     what was measured, kept in the run for pages; statistics.py: correlations, intervals
"""
