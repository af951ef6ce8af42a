"""A user's own data: tables of texts or images, folders of images, and hub data sets, in one form.

Whatever it was becomes a `Table`, which can be written back (`records`, `arrow`, `folders`, `hub`).
Its columns are named or inferred (`columns`), and its rows are checked one by one (`rows`). The
data set's notes list what was inferred, skipped and split off (`load`).
"""

from turnover.data.tables.load import load_own
from turnover.data.tables.spec import FILES, HUB, OwnData, is_own

__all__ = ["FILES", "HUB", "OwnData", "is_own", "load_own"]
