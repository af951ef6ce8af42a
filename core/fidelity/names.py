"""Names that pages look for among methods and figures; whatever else a measure gives is shown as it comes. No torch here."""

TURNOVER, AS_SHOWN = "turn-over", "turn-over, as shown"
"""What every name of our own methods has in it, and how the one ends that pages show."""

LDS, AUC, TARGETS, SPEARMAN = "LDS", "AUC", "targets", "Spearman"
STRONG, SAME_SIGN = "strong items", "same sign, strong"
SAME_SIGN_TOP, SAME_SIGN_CLAIMED = "same sign, strong in top 10", "same sign, claimed"
RANK = "rank, median"
"""Of known near duplicates among proponents: the one figure of which less is better."""

COVERAGE, COVERAGE_TOP = "coverage", "coverage, top 10"
