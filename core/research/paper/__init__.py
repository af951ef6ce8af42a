"""The experiments of Kobayashi et al. (2020): `turnover paper NAME`."""
