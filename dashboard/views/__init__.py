"""View models: frozen dataclasses built from a run and a query, without Streamlit and torch."""
