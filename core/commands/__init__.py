"""The commands of `python -m core`, one file each: `add_arguments` describes, `execute` does and returns what is printed.

A command returns a JSON-ready object; `core.cli` prints it whole under `--json`, and otherwise what `describe` makes of it.
"""
