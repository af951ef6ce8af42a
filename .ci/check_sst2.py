"""The real-data run of CI is held against the goals that do not depend on the machine's speed."""

import sys
from pathlib import Path

from turnover.research.evaluate.labels import wrong_label_auc
from turnover.runs.run import Run

run = Run(Path(sys.argv[1]))
results = run.manifest["results"]
auc = wrong_label_auc(run)
print(
    f"SST-2: accuracy {results['validation_accuracy']:.3f}, plain {results['plain_accuracy']:.3f}, "
    f"AUC of self-influence {auc:.3f}"
)
assert results["validation_accuracy"] >= results["plain_accuracy"] - 0.01
assert auc >= 0.86
assert len(run.influence.targets) == results["validation_size"]
