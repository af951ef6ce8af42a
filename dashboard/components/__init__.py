"""Pieces that draw. Whatever comes from a data set is escaped here (`html.escape`) before it
reaches `st.html`.
"""
