"""What is shown of a run's mistakes: errors and their explanations as dataclasses, words that texts share, pieces of HTML,
and a page that holds it all in one file. No torch and no Streamlit in here: the dashboard draws the same parts.
"""
