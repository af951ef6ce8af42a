"""`turnover`."""

import signal

# Asked to end, a command ends as by Ctrl-C: it tidies up, and the same command goes on where this
# one was.
signal.signal(signal.SIGTERM, signal.default_int_handler)

# the imports take a while, in which a signal should already end them so
from turnover.cli import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
