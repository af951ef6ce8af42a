"""Drawing functions. Text from data is escaped (`html.escape`) before it reaches `st.html`."""
