"""Estimators: from the members' raw influences to one number per pair, its error and a trust word.

- `raw`: one member, as in the paper; on texts almost all mask noise.
- `median`: over members, with its standard error.
- `scores`: those of another engine, as they were given.
- `best` (`shrinkage`, on the directions of `basis`): what all targets share, what a target adds and
  what an item adds, each kept as far as it stands out of the noise. `estimator` decides on held-out
  members whether a run shows it.

`estimator` also has the *smoothed* estimate, which runs do not show; `significance` has the words.
"""

RAW, MEDIAN, BEST, SCORES = "raw", "median", "best", "scores"
SHOWN = (RAW, MEDIAN, BEST, SCORES)
"""The estimators that a run may show."""
