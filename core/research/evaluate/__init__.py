"""How far a run's influences can be trusted: `turnover evaluate`.

Estimators and baselines are measured side by side against known answers. Each measure takes an
`EvaluationTask`, a run with a sample of its targets, and `Options`, and returns rows of figures
with the seconds that each method took.
"""
