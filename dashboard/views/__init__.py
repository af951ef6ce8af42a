"""View models: frozen dataclasses made from a run and a query. No Streamlit and no torch in
here.
"""
