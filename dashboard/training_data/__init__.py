"""Training data: the items that the model learned from, and decisions on many of them.

browse_view.py    which items match, in which order, and rows of them
message_view.py   what the browser sends, and the decisions that follow
panel_view.py     one item in detail
map_view.py       the places of items on the map
browser.py        the component that draws all of it (browser.js, tiles.js, panel.js, map.js)
together.py       the selected items summed, and the job that computes a map by UMAP
"""
