"""The Streamlit dashboard: reads run folders through `core`, never loads a model itself.

app.py        entry: navigation, theme, which run
app_pages/    one plain script a page: load, view model, render
views/        pure functions from a run and a query to what a page shows; no Streamlit, no torch
components/   pieces that draw
state.py      what is shared between tabs: opened runs and their workers
commands.py   short commands of the engine, while the user waits
engine.py     the worker process that holds a run's model, for the Try page
launch.py     `turnover dashboard`, what `make run` calls
"""
