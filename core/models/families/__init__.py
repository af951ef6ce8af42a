"""The families of models, one file each; `turnover.models.registry` finds them."""
