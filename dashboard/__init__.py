"""The Streamlit dashboard: reads run folders through the engine, never loads a model itself.

app.py        entry: navigation, theme, which run
app_pages/    one plain script a page: load, view model, render
views/        pure functions from a run and a query to what a page shows; no Streamlit, no torch
components/   pieces that draw
state.py      what is shared between tabs: opened runs and their workers
engine.py     the worker process that holds a run's model, and short commands
launch.py     `turnover dashboard`, what `make run` calls
"""
