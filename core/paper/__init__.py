"""The experiments of Kobayashi et al. (2020), one file each: `turnover paper NAME`.

Each has a small scale, which finishes on two CPU cores, and the paper's own, which wants a GPU. Its rows hold the paper's
number beside the measured one; what differs between the two settings is said in the row. Models are kept as run folders,
which the dashboard opens, and a run that is already there is used again.
"""
