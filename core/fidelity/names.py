"""Names that pages look for among methods and figures; whatever else a measure gives is shown as it comes. No torch here."""

TURNOVER, AS_SHOWN = "turn-over", "turn-over, as shown"
"""What every name of our own methods has in it, and how the one ends that pages show."""

LDS, AUC, TARGETS, SPEARMAN = "LDS", "AUC", "targets", "Spearman"
STRONG, SAME_SIGN = "strong items", "same sign, strong"
COVERAGE, COVERAGE_TOP = "coverage", "coverage, top 10"
