"""A user's own data: tables of texts or images, folders of images, and data sets of the hub, in one
form.

Whatever it was becomes a `Table` (`files`, `hub`), whose columns are named or guessed (`columns`)
and whose rows are checked one by one (`rows`). What was guessed, left out and split off is said in
the data set's notes.
"""

from turnover.data.tables.load import load_own
from turnover.data.tables.spec import FILES, HUB, OwnData, is_own

__all__ = ["FILES", "HUB", "OwnData", "is_own", "load_own"]
