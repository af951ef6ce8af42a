"""From the members' raw influences to one number a pair, with its error and a plain word for how
far to trust it.

- `raw`: one member, as in the paper; on texts almost all mask noise.
- `median`: over members, with its standard error.
- `smoothed` (`smoothing`): the mean, smoothed over like training items, one target at a time.
- `best` (`shrinkage`, on the directions of `basis`): what all targets share, what a target adds and
  what an item adds, each kept as far as it stands out of the noise. `estimator` decides on held-out
  members whether a run shows it.

`trust` has the words.
"""

RAW, MEDIAN, BEST = "raw", "median", "best"
SHOWN = (RAW, MEDIAN, BEST)
"""The estimators that a run may show."""
