"""How far influences can be trusted: measured against answers that are known."""
