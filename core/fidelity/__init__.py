"""How far influences can be trusted: measured against answers that are known, for every estimator and rival side by side.

One measure a file: `lds` (retraining on halves), `loo` (leaving single items out), `planted` (wrong labels and cues that were
planted on purpose), `real_errors` (labels that people found to be wrong), `duplicates` (of a target in the training set),
`removal` (of what is said to have taught an error), `agreement` (of two halves of the members). Each takes a `Subject`, a run
with a sample of its targets, and `Options`, and gives rows of figures with the seconds that the method took. `methods` and
`estimators` list what is measured, `retrained` trains again, `store` keeps in the run's folder what took long, and `results`
what came out, for pages.
"""
