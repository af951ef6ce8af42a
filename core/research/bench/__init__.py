"""Speed and quality on this machine: `turnover bench NAME`."""
