"""What the commands do, one file each: train a run, add influences, explain a new input, list errors, export flags.

These functions join the parts (data, models, training, engine, estimator) and read and write run folders; they print
nothing, and report progress through `turnover.progress`.
"""
