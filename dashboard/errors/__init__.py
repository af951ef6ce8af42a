"""The Errors page: what was got wrong, and who taught it.

list_view.py      which errors match, where one is among them, and how far the work has come
pane_view.py      one error with its teachers and opponents, as data
message_view.py   what the browser sends: steps, filters and decisions
markdown_view.py  one error as Markdown
explorer.py       the component that draws list and pane (explorer.js, pane.js, explorer.css)
more.py           what is reached below: groups, regions, the truth, changes, Markdown
answer_view.py    what is asked of the model, and its answer
own_view.py, try_own.py   texts and images of one's own, which are items like errors
edit.py, regions.py       changes to an item, and the regions of an image
worker.py         the answer from the process that holds the model
"""
