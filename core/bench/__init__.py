"""The measurements behind docs/results.md, one file each.

A measurement yields `Row`s; `turnover bench NAME` prints them as a table, or as JSON. Times are of this machine and
this moment; what is compared is compared within one run.
"""
