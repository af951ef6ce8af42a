"""How far a run's influences can be trusted: `turnover evaluate`."""
