"""A patch: the flags of a run as a JSONL file that changes a data set, and that a colleague can merge into a copy of the run.

form.py      the file: a header, then one decision a line; written, and read with care
content.py   what an item is known by: SHA-256 of its text or pixels
merge.py     a colleague's patch into the flags of a run
plan.py      which rows of a data set a patch drops and relabels, and which lines do not fit it
records.py   CSV, TSV and JSONL as records of bytes, so that what is not changed stays as it is
tables.py · parquet.py · folders.py   a data set of each form: cleansed, and restored
apply.py     what `turnover apply` does
"""
