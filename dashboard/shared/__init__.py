"""What pages share: notices, addresses, cards, tables, jobs and flags.

Text from data is escaped (`html.escape`) before it reaches `st.html`.
"""
