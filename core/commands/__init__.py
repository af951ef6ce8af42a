"""The commands of `turnover`, one file each: `add_arguments` describes, `execute` does and returns what is printed.

A command returns a JSON-ready object; `turnover.cli` prints it whole under `--json`, and otherwise what `describe` makes of it.
"""
