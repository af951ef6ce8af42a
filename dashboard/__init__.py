"""The Streamlit dashboard: reads run folders through the engine and never loads a model itself.

app.py        entry: navigation, theme, sign-in, choice of the run
app_pages/    one plain script per page: load, build the view model, render
views/        view models: pure functions of a run and a query; no Streamlit, no torch
components/   drawing functions
state.py      what tabs share: opened runs and their workers
engine.py     the worker process that holds a run's model, and short commands
launch.py     `turnover dashboard`, which `make run` calls
bench.py      speed and memory of the dashboard, measured in a browser
"""
